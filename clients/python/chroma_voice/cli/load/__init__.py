"""`chroma-voice bench`: its options, what it shows while it runs, and its tables."""
