"""The programs of examples/ run as they stand."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from examples.phone_bridge import HEADER, PACKET_S, PACKET_SAMPLES, decode, encode
from tests.e2e.test_terminal import ANSWER, until_interrupted, with_sound_card
from tests.support.local_stack import PATIENCE_S, QUESTION, LocalStack, environment
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.slow


def run_example(name: str, nano: LocalStack, folder: Path, text: str) -> str:
    """What the program prints for this standard input."""
    command = [sys.executable, str(EXAMPLES / name), nano.endpoints.gateway]
    done = subprocess.run(
        command, cwd=folder, env=environment(), input=text, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_typed_chat_answers_each_line(nano: LocalStack, tmp_path: Path) -> None:
    printed = run_example("chat_sync.py", nano, tmp_path, "How do I make a taco?\nWhat is two plus three?\n")
    assert printed.splitlines() == [ANSWER, "Two and three make five."]
    for number in (1, 2):
        with wave.open(str(tmp_path / f"reply-{number}.wav")) as sound:
            assert sound.getnframes() > 12_000


def test_the_batch_answers_all_questions_in_their_order(nano: LocalStack, tmp_path: Path) -> None:
    questions = ["How do I make a taco?", "What is two plus three?"] * 3
    lines = run_example("batch.py", nano, tmp_path, "\n".join(questions)).splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["question"] for answer in answers] == questions
    assert answers[0]["answer"] == answers[4]["answer"] == ANSWER
    assert all(answer["speech_s"] > 0.5 for answer in answers)


def test_the_microphone_talks_hands_free_with_barge_in(nano: LocalStack, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "microphone.py"), nano.endpoints.gateway]
    printed = until_interrupted(command, tmp_path)
    assert ANSWER in printed
    assert "[completed]" in printed


def test_a_microphone_that_stops_ends_the_program_with_its_reason(nano: LocalStack, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "microphone.py"), nano.endpoints.gateway]
    variables = with_sound_card(tmp_path, "unplugged")
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (1, "error: the microphone has stopped: is it still connected?\n")


@pytest.mark.parametrize("name", ["chat_sync.py", "microphone.py", "phone_bridge.py"])
def test_an_example_without_a_server_says_so_in_a_line(name: str, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # not listening, and nobody else's
        command = [sys.executable, str(EXAMPLES / name), f"127.0.0.1:{closed.getsockname()[1]}"]
        options = ["--port", "0"] if name == "phone_bridge.py" else []
        done = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=with_sound_card(tmp_path, ""),
            input="hello\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: nothing answers at 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


def test_the_codec_of_the_telephone_is_that_of_the_standard() -> None:
    samples = np.array([0, 8, -8, 1000, -1000, 32767, -32768], np.int16)
    again = np.frombuffer(decode(encode(samples)), "<i2").astype(int)
    assert encode(np.array([0, 32767, -32768], np.int16)) == b"\xff\x80\x00", "ITU-T G.711"
    assert np.all(np.abs(again - samples.astype(int)) <= np.abs(samples.astype(int)) / 16 + 8)


def test_a_caller_on_the_telephone_gets_a_spoken_reply(nano: LocalStack) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.setblocking(False)
        command = [sys.executable, str(EXAMPLES / "phone_bridge.py"), nano.endpoints.gateway, "--port", str(port)]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as bridge:
            try:
                assert bridge.stdout is not None
                assert bridge.stdout.readline() == f"RTP on port {port}\n"
                assert call(line, port) > 8_000, "more than a second of speech"
            finally:
                bridge.kill()


def call(line: socket.socket, port: int) -> int:
    """Ask the question on the line, then listen. Returns the samples of the reply that are not silence."""
    with wave.open(str(QUESTION)) as file:
        rate_hz = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    said = encode(samples[:: rate_hz // 8_000])
    loud, number, begun_s = 0, 0, time.monotonic()
    while loud <= 8_000 and time.monotonic() < begun_s + PATIENCE_S:
        piece = said[number * PACKET_SAMPLES :][:PACKET_SAMPLES].ljust(PACKET_SAMPLES, b"\xff")
        head = HEADER.pack(0x80, 0, number & 0xFFFF, number * PACKET_SAMPLES, 1)
        line.sendto(head + piece, ("127.0.0.1", port))
        number += 1
        time.sleep(max(0.0, begun_s + number * PACKET_S - time.monotonic()))
        while True:
            try:
                packet = line.recv(2_000)
            except BlockingIOError:
                break
            loud += int((np.abs(np.frombuffer(decode(packet[HEADER.size :]), "<i2")) > 100).sum())
    return loud
