"""How well chroma-nano does, through the real services: what `make eval-nano` measures (docs/nano.md)."""
