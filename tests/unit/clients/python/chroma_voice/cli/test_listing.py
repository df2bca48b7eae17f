"""Lists of the terminal."""

from __future__ import annotations

import pytest

from chroma_voice.cli.listing import print_list

LONG = "many words " * 30


def test_a_row_is_one_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(("voice", "transcript"), [("amber", LONG), ("basil", "[bold]")])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["voice", "amber", "basil"]
    assert lines[1][1].strip() == LONG.strip()
    assert lines[2][1].strip() == "[bold]", "no cell is markup"


def test_a_terminal_folds_long_cells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    print_list(("voice", "transcript"), [("amber", LONG)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines[1:])) <= 60
