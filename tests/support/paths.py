"""Where the repository and its data lie, for every test."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
GOLDEN = ROOT / "tests" / "golden"
PUBLIC_GOLDEN = GOLDEN / "public"
"""Outputs of the reference implementation on tiny weights."""
