from __future__ import annotations

import json
import sys
import threading
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
        ("talk", "--text", "Hello?", "--json", "--out", "-"),
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


def test_several_turns_share_a_session_and_have_numbered_files(
    gateway: FakeGateway, question: Path, tmp_path: Path
) -> None:
    gateway.sessions["new"] = dialogue_pb2.Session(session_id="new")
    texts = ("--text", "And?", "--text", "Then?")
    result = run(gateway, "talk", question, *texts, "--voice", "reader", "--out", tmp_path / "r.flac")
    assert result.exit_code == 0, result.output
    kinds = [request.WhichOneof("request") for request in gateway.requests]
    assert [kind for kind in kinds if kind != "audio"] == ["open", "text", "commit", "open", "text", "commit"]
    assert [r.text for r in gateway.requests if r.text] == ["And?", "Then?"]
    assert gateway.requests[kinds.index("commit") + 1].open.session_id == "new", "a turn without sound goes on with it"
    for number in (1, 2):
        assert soundfile.info(tmp_path / f"r-{number}.flac").frames == 5760
        assert (tmp_path / f"r-{number}.txt").exists()


def test_json_is_one_line_for_each_turn(gateway: FakeGateway, tmp_path: Path) -> None:
    asked = ("--text", "Hi", "--text", "Ho", "--voice", "reader", "--out", tmp_path / "r.wav")
    lines = run(gateway, "talk", *asked, "--json").output.splitlines()
    first, second = map(json.loads, lines)
    assert (first["text"], first["session_id"], first["outcome"]) == ("Fold a tortilla.", "new", "completed")
    assert (first["sound"], second["sound"]) == (str(tmp_path / "r-1.wav"), str(tmp_path / "r-2.wav"))
    assert first["timings"]["heard_s"] == pytest.approx(0.01)


def test_quiet_prints_the_text_alone(gateway: FakeGateway, tmp_path: Path) -> None:
    result = run(gateway, "talk", "--text", "Hi", "--voice", "reader", "--out", tmp_path / "r.wav", "--quiet")
    assert result.output == "Fold a tortilla.\n"


def test_standard_output_gets_the_sound_and_standard_error_the_rest(gateway: FakeGateway) -> None:
    result = run(gateway, "talk", "--text", "Hi", "--voice", "reader", "--out", "-")
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes.startswith(b"RIFF")
    assert len(result.stdout_bytes) == 44 + 2 * 5760
    assert "Fold a tortilla." in result.stderr


def test_a_key_can_be_given_by_an_option(gateway: FakeGateway, tmp_path: Path) -> None:
    asked = ("--text", "Hi", "--voice", "reader", "--out", tmp_path / "r.wav")
    assert run(gateway, "talk", *asked, "--api-key", "cv_1", CHROMA_API_KEY="cv_2").exit_code == 0
    assert run(gateway, "talk", *asked, CHROMA_API_KEY="cv_2").exit_code == 0
    assert [call["authorization"] for call in gateway.metadata] == ["Bearer cv_1", "Bearer cv_2"]


def test_play_plays_the_reply_to_its_end(gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = bytearray()

    class Card(threading.Thread):
        """Plays at once what it is given."""

        def __init__(self, callback: Callable[..., None], **settings: Any) -> None:
            super().__init__(daemon=True)
            self.callback, self.over = callback, threading.Event()

        def run(self) -> None:
            while not self.over.wait(0.001):
                piece = bytearray(960)
                self.callback(memoryview(piece), 480, None, None)
                played.extend(piece)

        def abort(self) -> None:
            self.over.set()
            self.join()

        close = abort

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(RawOutputStream=Card))
    result = run(gateway, "talk", "--text", "Hi", "--voice", "reader", "--out", tmp_path / "r.wav", "--play")
    assert result.exit_code == 0, result.output
    loud = np.frombuffer(bytes(played), "<i2")
    assert (int((loud == 1).sum()), int((loud == 2).sum())) == (1920, 1920)


def test_a_loudspeaker_that_stops_is_an_error_after_the_reply_was_saved(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Card:
        """Stops as soon as it has started."""

        def __init__(self, finished_callback: Callable[[], None], **settings: Any) -> None:
            self.start = finished_callback

        def abort(self) -> None:
            pass

        close = abort

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(RawOutputStream=Card))
    out = tmp_path / "r.wav"
    result = run(gateway, "talk", "--text", "Hi", "--voice", "reader", "--out", out, "--play")
    assert result.exit_code == 1
    assert "the loudspeaker has stopped: is it still connected?" in str(result.exception)
    with wave.open(str(out)) as sound:
        assert sound.getnframes() == 3 * 1920
