"""The processes that the launcher starts: how they start, how they are kept running, and what they share."""
