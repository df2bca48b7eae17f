"""The commands of the terminal on a real stack, with a sound card in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_stack import PATIENCE_S, QUESTION, LocalStack, environment, run
from tests.support.paths import ROOT

SOUND_CARD = ROOT / "tests" / "support" / "sound_card"
ANSWER = "To make a taco, warm a tortilla and fill it with meat, cheese and salsa."

pytestmark = pytest.mark.slow


def with_sound_card(folder: Path, *says: str) -> dict[str, str]:
    """The environment of a program whose microphone hears these files."""
    own = environment()
    paths = [str(SOUND_CARD), *filter(None, [own.get("PYTHONPATH")])]
    played = str(folder / "played.pcm")
    return {**own, "PYTHONPATH": ":".join(paths), "SOUND_CARD_SAYS": ":".join(says), "SOUND_CARD_PLAYED": played}


def until_interrupted(command: list[str], folder: Path) -> str:
    """What the program prints when its user asks and then interrupts the reply.

    On a machine that is too busy the reply can be over before the interruption is heard: it is tried three times.
    """
    variables = with_sound_card(folder, str(QUESTION), f"+{QUESTION}")
    printed = ""
    for _ in range(3):
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr
        printed = done.stdout
        if "[interrupted]" in printed:
            return printed
    raise AssertionError(f"no reply was interrupted:\n{printed}")


def test_a_chat_hears_answers_and_is_interrupted_by_speech(nano: LocalStack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chroma_voice.cli", "chat", "--state", str(nano.folder.path), "--voice", "amber"]
    assert ANSWER in until_interrupted(command, tmp_path)
    assert (tmp_path / "played.pcm").stat().st_size > 2 * 24_000, "a second of sound at least"


def test_a_reply_is_played_while_it_is_saved(nano: LocalStack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chroma_voice.cli", "talk", "--state", str(nano.folder.path), "--play", "--json"]
    command += ["--text", "How do I make a taco?", "--out", str(tmp_path / "reply.mp3")]
    done = subprocess.run(
        command, env=with_sound_card(tmp_path), capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    turn = json.loads(done.stdout)
    assert (turn["text"], turn["out_of_domain"]) == (ANSWER, [])
    assert (tmp_path / "reply.mp3").stat().st_size > 10_000
    assert (tmp_path / "played.pcm").stat().st_size > 2 * 24_000


def test_the_small_checkpoint_says_what_it_cannot_say(nano: LocalStack, tmp_path: Path) -> None:
    said = ("--say", "The quick brown fox jumps over the lazy dog.", "--out", tmp_path / "r.wav", "--quiet")
    assert "cannot say this text" in run("talk", *said, "--state", nano.folder.path)


@pytest.mark.parametrize(
    ("options", "settings", "words"),
    [
        (("--device", "banana"), {}, "the device 'banana' cannot be used here"),
        ((), {"CHROMA_THREADS": "many"}, "bad setting CHROMA_THREADS"),
        ((), {"CHROMA_" + "THREDS": "2"}, "did you mean CHROMA_THREADS?"),
        ((), {"CHROMA_API_KEYS": "alice=secret"}, "CHROMA_API_KEYS"),
    ],
)
def test_a_wrong_setting_of_the_launcher_is_told_in_one_line(
    options: tuple[str, ...], settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    printed = run("up", "--state", tmp_path / "state", "--model", "tiny", *options, expect=1, **settings)
    errors = [line for line in printed.splitlines() if line.startswith("error")]
    assert len(errors) == 1, printed
    assert words in errors[0]
    assert "Traceback" not in printed


def test_the_page_is_at_the_same_address_at_each_start(tmp_path: Path) -> None:
    pages = set()
    for _ in range(2):
        stack = LocalStack(tmp_path / "state")
        stack.start()
        pages.add(stack.endpoints.page)
        stack.stop()
    assert len(pages) == 1
