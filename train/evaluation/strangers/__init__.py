"""Cloning of strangers, speakers whom no stage of training has heard: `make eval-nano` (docs/nano.md)."""
