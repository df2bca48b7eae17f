"""The evaluation of chroma-nano through the real services: `make eval-nano` (docs/nano.md)."""
