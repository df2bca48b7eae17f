"""Who calls when, and asks what."""
