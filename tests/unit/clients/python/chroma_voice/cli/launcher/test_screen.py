from __future__ import annotations

import pytest

from chroma_voice.cli.launcher.screen import Screen
from chroma_voice.local.processes.supervisor import Change


def test_each_change_is_one_line_and_a_start_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(["codec", "gateway"]) as screen:
        screen.show(Change("codec", "starting"))
        screen.show(Change("codec", "ready", 1.26))
        screen.show(Change("gateway", "ready", 0.5))
        screen.all_ready("ready: [gateway]")
    assert capsys.readouterr().out.splitlines() == [
        "codec   ready after 1.3 s",
        "gateway ready after 0.5 s",
        "ready: [gateway]",
    ]


def test_a_death_says_why_when_it_restarts_and_how_its_log_ends(capsys: pytest.CaptureFixture[str]) -> None:
    died = Change("codec", "died", 0.25, "was killed by SIGKILL", ["loading", "[1] out of memory"])
    with Screen(["codec"]) as screen:
        screen.show(died)
        screen.show(Change("codec", "ready", 2.0))
        screen.show(died)  # a second death, when the spinner is gone
    first, *log, ready = capsys.readouterr().out.splitlines()[:4]
    assert first == "codec was killed by SIGKILL; starting it again in 0.25 s. The end of its log:"
    assert log == ["  loading", "  [1] out of memory"]
    assert ready == "codec ready after 2.0 s"
