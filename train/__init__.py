"""Training of chroma-nano, the small checkpoint that the demo speaks with (docs/nano.md)."""
