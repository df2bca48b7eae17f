"""Measured figures in the documents have a source, and the served source states none.

The rule stands in tests/support/figures.py. A figure that nobody can measure again goes.
"""

from __future__ import annotations

import ast
import io
import tokenize

import pytest

from tests.support.figures import Block, blocks_of, missing_of, without_source
from tests.support.paths import ROOT
from tests.support.snippets import pages

SERVED = ("services", "gateway", "checkpoints", "clients/python/chroma_voice")
SOURCE = "`make bench`, two cores, 2026-11-28, commit 6c25b7b."


@pytest.mark.parametrize("page", pages())
def test_every_measurement_of_a_page_has_a_source(page: str) -> None:
    lost = {f"{page}:{block.line}": missing_of(block.text) for block in without_source((ROOT / page).read_text())}
    assert not lost, "give the section a command in backticks, a machine, a date and a commit, or take the figure out"


def test_the_served_source_states_no_measurement() -> None:
    stated = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in SERVED
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in told(path.read_text())
        if Block(line, text, ()).is_measurement
    ]
    assert not stated


def told(source: str) -> list[tuple[int, str]]:
    """The comments of a file, and the paragraphs of its longer texts, with their lines."""
    found = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 40:
            found += [(node.lineno, paragraph) for paragraph in node.value.split("\n\n")]
    return found


@pytest.mark.parametrize(
    "text",
    [
        "A frame took 3.5 ms.",
        "Measured: 12 % of a core.",
        "A piece takes about 0.5 ms of a core.",
        "It is 1.5 times as fast as a loop.",
        "The p95 was 200 ms.",
        "| load | wait |\n|---|---|\n| 1 | 20 ms |\n| 2 | 30 ms |\n| 3 | 40 ms |",
    ],
)
def test_a_measurement_without_a_source_is_found(text: str) -> None:
    assert [block.text for block in without_source(f"# Page\n\n{text}\n")] == [text]
    assert not without_source(f"# Page\n\n{SOURCE}\n\n{text}\n")
    assert not without_source(f"# Page\n\n{SOURCE}\n\n## Section\n\n{text}\n")
    assert without_source(f"# Page\n\n## Other\n\n{SOURCE}\n\n## Section\n\n{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "A turn may last 450 s at most.",
        "`CHROMA_DRAIN_S` (120 s) is longer.",
        "A frame is 80 ms of sound.",
        "*Computed*: a step takes 3 ms.",
        "It took 3 ms ([here](performance.md#first-sound)).",
        "```bash\nsleep 3   # took 3 s\n```",
    ],
)
def test_limits_computed_figures_links_and_blocks_of_code_are_no_measurements(text: str) -> None:
    assert not without_source(f"# Page\n\n{text}\n")


def test_a_decision_speaks_for_itself() -> None:
    first = f"**2026-11-28. One.** It took 3 ms ({SOURCE})"
    second = "**2026-11-28. Two.** It took 4 ms."
    assert [block.text for block in without_source(f"# Page\n\n{first}\n{second}\n")] == [second]


def test_each_part_of_a_source_is_needed() -> None:
    assert missing_of(SOURCE) == []
    for part, name in (
        ("`make bench`", "a command"),
        ("two cores", "a machine"),
        ("2026-11-28", "a date"),
        ("commit", "a commit"),
    ):
        assert missing_of(SOURCE.replace(part, "")) == [name]


def test_blocks_know_their_lines_and_headings() -> None:
    text = "# Page\n\nOne\nmore.\n- an item\n\n## Section\n```sh\n# no heading\n```\nTwo.\n# Next\nThree.\n"
    assert [(block.line, block.text, block.headings) for block in blocks_of(text)] == [
        (3, "One\nmore.", ("Page",)),
        (5, "- an item", ("Page",)),
        (11, "Two.", ("Page", "Section")),
        (13, "Three.", ("Next",)),
    ]


def test_comments_and_texts_of_a_file_are_read() -> None:
    source = '"""A first line that is longer than forty characters.\n\nIt took 3 ms.\n"""\nx = 1  # took 4 ms\n'
    assert [text for _, text in told(source)][:1] == ["# took 4 ms"]
    assert any("took 3 ms" in text for _, text in told(source))
