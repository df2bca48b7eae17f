"""What the launcher gives its children."""

from __future__ import annotations

from pathlib import Path

import pytest

from chroma_voice.local.stack import MODULES, Stack
from chroma_voice.local.state import StateFolder


@pytest.mark.parametrize(("chosen", "given"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_tensors_lie_in_large_pages_unless_the_user_says_otherwise(
    chosen: dict[str, str], given: str, tmp_path: Path
) -> None:
    environment = {"CHROMA_REDIS_URL": "redis://127.0.0.1:1/0", **chosen}
    stack = Stack(StateFolder(tmp_path), "model", random_weights=True, environment=environment)
    for name in MODULES:
        assert stack._servers[name].process.environment["THP_MEM_ALLOC_ENABLE"] == given
