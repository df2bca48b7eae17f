"""What a paced listener hears, and how a caller speaks."""
