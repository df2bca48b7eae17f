"""docs/troubleshooting.md quotes messages that the program really writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.snippets import snippets_of

MESSAGES = [snippet.code.strip() for snippet in snippets_of("docs/troubleshooting.md") if snippet.language == "text"]
SOURCES = [
    path
    for folder in ("services", "gateway", "clients/python")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".js"}
] + [ROOT / "Makefile"]


def _writes(source: Path, message: str) -> bool:
    """Whether a file holds all the fixed parts of a message."""
    text = source.read_text(encoding="utf-8").replace('\\"', '"')
    return all(part.strip() in text for part in message.split("…") if part.strip(" :;?"))


def test_the_page_quotes_ten_messages() -> None:
    assert len(MESSAGES) >= 10


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    assert any(_writes(source, message) for source in SOURCES)
