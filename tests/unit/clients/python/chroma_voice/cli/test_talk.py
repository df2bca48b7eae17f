from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from chroma.v1 import dialogue_pb2
from chroma_voice.cli import app
from chroma_voice.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from tests.support.fake_gateway import FakeGateway
from tests.support.gateway_commands import run


def test_talk_saves_sound_text_and_picture_and_prints_where(
    gateway: FakeGateway, question: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "reply.wav"
    result = run(gateway, "talk", question, "--voice", "reader", "--out", out, "--seed", "0", "--max-seconds", "2")
    assert result.exit_code == 0, result.output
    with wave.open(str(out)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (24_000, 1, 5760)
    assert out.with_suffix(".txt").read_text() == "Fold a tortilla.\n"
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.size == (1650, 960)
    for part in ("Fold a tortilla.", str(out), "first sound after", "0.24 s of speech", "RTF", "hearing", "sounding"):
        assert part in result.output
    opening, *rest = gateway.requests
    assert opening.open.input_format.sample_rate_hz == 22_050
    assert (opening.open.new_session.sampling.seed, opening.open.new_session.max_reply_s) == (0, 2.0)
    assert sum(len(request.audio) for request in rest) == 2 * 22_050
    assert rest[-1].WhichOneof("request") == "commit"


def test_talk_asks_by_text_and_says_by_say(gateway: FakeGateway, tmp_path: Path) -> None:
    arguments = ("--voice", "reader", "--out", tmp_path / "r.wav")
    assert run(gateway, "talk", "--text", "Hello?", *arguments).exit_code == 0
    assert run(gateway, "talk", "--say", "Hello!", *arguments).exit_code == 0
    assert [request.WhichOneof("request") for request in gateway.requests] == ["open", "text", "commit", "open", "say"]
    assert gateway.requests[-1].say.text == "Hello!"


def test_failed_turn_leaves_no_file_and_fails_the_command(gateway: FakeGateway, question: Path, tmp_path: Path) -> None:
    gateway.turn_error = dialogue_pb2.TurnError(code=8, message="no free slot")
    result = run(gateway, "talk", question, "--voice", "reader", "--out", tmp_path / "reply.wav")
    assert result.exit_code == 1
    assert isinstance(result.exception, ResourceExhausted)
    assert not (tmp_path / "reply.wav").exists()


def test_unknown_voice_fails_the_command(gateway: FakeGateway, question: Path, tmp_path: Path) -> None:
    result = run(gateway, "talk", question, "--voice", "nobody", "--out", tmp_path / "reply.wav")
    assert isinstance(result.exception, NotFound)


def test_file_that_is_no_audio_is_refused_before_anything_is_sent(gateway: FakeGateway, tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("not audio")
    result = run(gateway, "talk", path, "--voice", "reader", "--out", tmp_path / "reply.wav")
    assert isinstance(result.exception, InvalidArgument)
    assert "expected an audio file" in str(result.exception)
    assert not gateway.requests


def test_recording_with_nan_is_refused_before_anything_is_sent(gateway: FakeGateway, tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.1, np.nan] * 8000, dtype=np.float32), 16_000, subtype="FLOAT")
    result = run(gateway, "talk", path, "--voice", "reader", "--out", tmp_path / "reply.wav")
    assert isinstance(result.exception, InvalidArgument)
    assert not gateway.requests


@pytest.mark.parametrize(
    "arguments",
    [
        ("talk", "--voice", "reader"),
        ("talk", "--text", "Hello?"),
        ("talk", "--voice", "reader", "--text", "a", "--say", "b"),
        ("talk", "missing.wav", "--voice", "reader"),
        ("serve", "nothing"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_talk_without_a_gateway_says_how_to_start_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["talk", "--text", "Hi", "--voice", "reader", "--state", str(tmp_path)])
    assert isinstance(result.exception, Unavailable)
    assert "chroma-voice up" in str(result.exception)
