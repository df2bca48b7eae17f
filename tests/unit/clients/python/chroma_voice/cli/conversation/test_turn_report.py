from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chroma.v1 import dialogue_pb2
from chroma_voice.cli.conversation.asked_turn import ReceivedTurn
from chroma_voice.cli.conversation.turn_report import Report
from chroma_voice.errors import ResourceExhausted
from chroma_voice.events import TurnDone


def received(**fields: Any) -> ReceivedTurn:
    outcome = dialogue_pb2.TURN_OUTCOME_FAILED if "error" in fields else dialogue_pb2.TURN_OUTCOME_COMPLETED
    done = dialogue_pb2.TurnDone(turn_id="t", outcome=outcome, text="Five :smile: [b].", output_audio_s=1.0, **fields)
    return ReceivedTurn(TurnDone.from_proto(done), 0.1, 0.5)


def test_what_the_checkpoint_cannot_say_is_a_warning_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(as_json=False, quiet=True, to_stderr=False)
    report.end(received(out_of_domain=["Five."]), tmp_path / "r.wav", "s")
    printed = capsys.readouterr()
    assert printed.out == "Five :smile: [b].\n", "text is printed as it is"
    assert "cannot say" in printed.err


def test_a_turn_that_failed_raises_and_writes_nothing(tmp_path: Path) -> None:
    failed = received(error=dialogue_pb2.TurnError(code=8, message="no free slot"))
    with pytest.raises(ResourceExhausted):
        Report(as_json=True, quiet=False, to_stderr=False).end(failed, tmp_path / "r.wav", "s")
    assert not list(tmp_path.iterdir())


def test_an_early_end_and_an_unrecorded_turn_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Report(as_json=False, quiet=False, to_stderr=False).end(received(), tmp_path / "r.wav", "s")
    printed = capsys.readouterr().out
    for words in (str(tmp_path / "r.wav"), "RTF 0.500", "ended by interruption", "was not recorded"):
        assert words in printed
