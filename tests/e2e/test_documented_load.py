"""The commands of documents that call a running server and look into it."""

from __future__ import annotations

import json

import pytest

from tests.support.documented_stack import DocumentedStack
from tests.support.snippets import snippet_that_begins

pytestmark = pytest.mark.slow


def test_the_load_of_the_guide_is_carried_and_its_turns_can_be_seen(documented: DocumentedStack) -> None:
    printed = documented.run(snippet_that_begins("docs/bench.md", "chroma-voice bench --duration").code)
    assert "first sound heard" in printed
    (folder,) = (documented.checkout / "bench-results").iterdir()
    summary = json.loads((folder / "bench.json").read_text())["summary"]
    assert summary["completed"] > 0
    seen = documented.run(snippet_that_begins("docs/operations.md", "chroma-voice trace --state").code)
    assert "codec.Decode" in seen
