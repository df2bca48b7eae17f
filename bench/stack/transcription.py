"""What transcripts cost: first sound of spoken turns with `audio.input.transcription` and without, as a ratio.

`python -m bench.stack.transcription` asks a running gateway over Realtime with turn detection, so the passes over
speech that goes on are in it too. Conversations begin one after the other. Rounds with and without transcripts
alternate, so that other work of the machine meets both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
import websockets
from rich.console import Console
from rich.table import Table

RATE_HZ = 24_000
PIECE_S = 0.08
SILENCE_S = 1.5
"""Silence behind a question: turn detection ends the turn in it."""


def question_pieces(path: Path) -> list[bytes]:
    """A recording at 24 kHz in pieces of 80 ms, s16le, with silence behind it."""
    samples, rate_hz = soundfile.read(path, dtype="int16")
    if rate_hz != RATE_HZ or samples.ndim != 1:
        raise SystemExit(f"{path}: expected mono at {RATE_HZ} Hz")
    data = samples.tobytes() + bytes(2 * int(RATE_HZ * SILENCE_S))
    size = 2 * int(RATE_HZ * PIECE_S)
    return [data[at : at + size] for at in range(0, len(data), size)]


async def first_sounds(url: str, pieces: Sequence[bytes], *, turns: int, transcribe: bool) -> list[float]:
    """Ask the question so many times in one conversation. Returns the seconds from the end of speech, as turn detection
    tells it, to the first sound of each reply."""
    sounds: list[float] = []
    async with websockets.connect(url, max_size=None) as socket:
        audio = {"input": {"transcription": {"model": "chroma"} if transcribe else None}}
        await socket.send(json.dumps({"type": "session.update", "session": {"type": "realtime", "audio": audio}}))
        for _ in range(turns):
            speaking = asyncio.create_task(_speak(socket, pieces))
            stopped_s = 0.0
            is_waiting = True
            missing = {"response.done"} | (
                {"conversation.item.input_audio_transcription.completed"} if transcribe else set()
            )
            while missing:
                event: dict[str, Any] = json.loads(await socket.recv())
                missing.discard(event["type"])
                if event["type"] == "input_audio_buffer.speech_stopped":
                    stopped_s = time.perf_counter()
                elif event["type"] == "response.output_audio.delta" and is_waiting:
                    sounds.append(time.perf_counter() - stopped_s)
                    is_waiting = False
                elif event["type"] == "error" or event["type"].endswith("transcription.failed"):
                    raise SystemExit(event["error"]["message"])
            await speaking
    return sounds


async def _speak(socket: Any, pieces: Sequence[bytes]) -> None:
    began_s = time.perf_counter()
    for number, piece in enumerate(pieces, start=1):
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(piece).decode()}))
        await asyncio.sleep(max(0.0, began_s + PIECE_S * number - time.perf_counter()))


async def measure(url: str, pieces: Sequence[bytes], conversations: int, *, rounds: int) -> dict[bool, list[float]]:
    """First sounds in seconds without and with transcripts, of so many conversations at once."""
    found: dict[bool, list[float]] = {False: [], True: []}
    apart_s = len(pieces) * PIECE_S / conversations

    async def converse(number: int, transcribe: bool) -> list[float]:
        await asyncio.sleep(number * apart_s)
        return await first_sounds(url, pieces, turns=3, transcribe=transcribe)

    for number in range(rounds):
        for transcribe in (False, True) if number % 2 else (True, False):
            talks = await asyncio.gather(*(converse(at, transcribe) for at in range(conversations)))
            found[transcribe] += [sound_s for talk in talks for sound_s in talk]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.stack.transcription", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--state", type=Path, default=Path("state"), help="the folder of `chroma-voice up`")
    parser.add_argument("--conversations", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=4, help="of three turns each, with transcripts and without")
    parser.add_argument("--question", type=Path, default=Path("samples/question_make_taco.wav"))
    options = parser.parse_args(arguments)
    page: str = json.loads((options.state / "endpoints.json").read_text())["page"]
    url = f"ws{page.removeprefix('http').rstrip('/')}/v1/realtime"
    table = Table("conversations", "without: median, 90 %", "with: median, 90 %", "ratio of medians", "of 90 %")
    for conversations in options.conversations:
        found = asyncio.run(measure(url, question_pieces(options.question), conversations, rounds=options.rounds))
        (off, off_90), (on, on_90) = (_middle_and_90(found[transcribe]) for transcribe in (False, True))
        table.add_row(
            str(conversations),
            f"{off * 1e3:.0f} ms, {off_90 * 1e3:.0f} ms",
            f"{on * 1e3:.0f} ms, {on_90 * 1e3:.0f} ms",
            f"{on / off:.2f}",
            f"{on_90 / off_90:.2f}",
        )
    Console().print(table)


def _middle_and_90(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), sorted(values)[int(len(values) * 0.9)]


if __name__ == "__main__":
    main()
