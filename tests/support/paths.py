"""The paths of the repository and its data, for every test."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
GOLDEN = ROOT / "tests" / "golden"
PUBLIC_GOLDEN = GOLDEN / "public"
"""The outputs of the reference implementation on tiny weights."""
