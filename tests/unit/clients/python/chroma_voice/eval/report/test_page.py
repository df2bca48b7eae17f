"""The page has the figures, escapes what comes from outside, and needs no other file."""

import base64
import re
from pathlib import Path

import pytest

from chroma_voice.eval.report import charts, page
from chroma_voice.eval.report.page import MAX_PLAYERS, MAX_ROWS, cards, render, rows, similarity_groups, word_errors
from tests.support.eval_results import reply, results, write_sound


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are not drawn, which takes a second or more."""
    for name in ("strips", "bars"):
        monkeypatch.setattr(charts, name, lambda *given: "<svg></svg>")
    monkeypatch.setattr(page, "percentile_curves", lambda *given: "<svg></svg>")


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_the_figures_and_escapes_what_comes_from_outside(tmp_path: Path) -> None:
    found = results(broken="interrupted after 3 pairs", target="<script>alert(1)</script>", text="<b>bold</b>")
    write_sound(tmp_path / found.replies[1].file)
    text = render(found, tmp_path)
    assert "<script" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert text.count("<svg></svg>") == 3
    for part in (
        "The results are partial.",
        "another speaker",
        "0.700",
        "Failed pairs",
        "a step failed",
        "max reply s",
    ):
        assert part in text
    assert text.count("<audio controls") == 1
    links = re.findall(r'(?:src|href)="([^"#]{1,40})|url\(([^#)][^)]*)\)|@import', text)
    assert [link[0].split(",")[0] for link in links] == ["data:audio/flac;base64"]
    assert "--accent" in text  # the style is in the page


def test_cards_mark_failed_pairs() -> None:
    assert [(card.value, card.is_bad) for card in cards(results())] == [
        ("11.1%", False),
        ("0.700", False),
        ("200 ms", False),
        ("3", False),
        ("1", True),
    ]


def test_the_worst_replies_come_first_and_the_first_ones_with_sound(tmp_path: Path) -> None:
    heard = [reply(number) for number in range(1, MAX_ROWS + 10)]
    heard[41] = reply(42, wrong=2)
    heard[42] = reply(43, similarity=0.1)
    for record in heard:
        record.file = "one.wav"
    write_sound(tmp_path / "one.wav")
    found = rows(heard, tmp_path)
    assert [row.number for row in found[:3]] == [42, 43, 1]
    assert len(found) == MAX_ROWS
    assert sum(bool(row.sound) for row in found) == MAX_PLAYERS
    assert base64.b64decode(found[0].sound.split(",")[1])[:4] == b"fLaC"


def test_groups_of_the_charts_are_replies_and_references() -> None:
    assert [(name, len(values)) for name, values, _ in similarity_groups(results())] == [
        ("replies to their own voice", 3),
        ("voice with itself", 1),
        ("codec alone", 0),
        ("another speaker", 1),
    ]
    assert [name for name, _ in word_errors(results())] == ["all replies", "ann", "ben", "recordings"]
