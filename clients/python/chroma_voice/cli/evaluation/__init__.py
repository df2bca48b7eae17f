"""`chroma-voice eval`: its options, its progress and its tables."""
