"""The transcript of one recording, outside any conversation: passes of the reasoner over the recording's speech."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE
from chroma.v1.generation_pb2 import END_REASON_LIMIT, END_REASON_POSITIONS
from gateway.access.caller import Caller
from gateway.audio.resample import energy_of, is_silent
from gateway.conversation.backend import Backend
from gateway.conversation.transcripts.transcription import write_down
from gateway.conversation.vad import Started, TurnDetection, TurnDetector
from gateway.pipeline.deltas import AudioDelta, TextDelta, ToolCallMade
from services.common.errors import OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples, encode_pcm

TakeText = Callable[[str], Awaitable[None]]
"""Takes a piece of a transcript."""


@dataclass(frozen=True)
class Passage:
    """A stretch of speech and its transcript. Times are in seconds of the recording."""

    start_s: float
    end_s: float
    text: str
    input_tokens: int = 0
    output_tokens: int = 0


@asynccontextmanager
async def counted(backend: Backend, caller: Caller, duration_s: float) -> AsyncIterator[str]:
    """Count a recording of this length as one turn of the caller. Yields the turn's id.

    Raises ResourceExhausted when the caller has no turn or no input audio left.
    """
    turn_id = f"transcript-{secrets.token_hex(8)}"
    await backend.usage.begin_turn(caller, turn_id)
    try:
        yield turn_id
    finally:
        await asyncio.shield(backend.usage.end_turn(caller, turn_id, input_s=duration_s, output_s=0.0))


async def transcript_of(
    samples: Samples, turn_id: str, backend: Backend, caller: Caller, take_text: TakeText
) -> Passage:
    """The transcript of a whole recording [S] at 16 kHz, in one pass. `take_text` gets its pieces as they come.

    The pieces joined are the transcript, without white space at its ends. Raises InvalidArgument for silence,
    OutOfRange for a transcript that does not fit into a reply, or the domain error of the reasoner.
    """
    held = ""
    begun = False

    async def take(delta: TextDelta | AudioDelta | ToolCallMade) -> None:
        nonlocal held, begun
        assert isinstance(delta, TextDelta), "the pass has no speech"
        text = held + (delta.text if begun else delta.text.lstrip())
        held = text[len(text.rstrip()) :]
        if text := text.rstrip():
            begun = True
            await take_text(text)

    pcm = encode_pcm(samples, AUDIO_ENCODING_PCM_F32LE)
    turn = await write_down(
        pcm, AUDIO_ENCODING_PCM_F32LE, turn_id, backend.upstreams_of(caller), backend.settings, take
    )
    if turn.text_end in (END_REASON_LIMIT, END_REASON_POSITIONS):
        raise OutOfRange(f"expected a transcript of at most {len(turn.thoughts)} tokens, got more")
    return Passage(
        0.0,
        len(samples) / HEARING_RATE_HZ,
        "".join(thought.text for thought in turn.thoughts).strip(),
        input_tokens=turn.prompt.prompt_tokens,
        output_tokens=len(turn.thoughts),
    )


async def passages_of(samples: Samples, turn_id: str, backend: Backend, caller: Caller) -> list[Passage]:
    """The stretches of speech in a recording [S] at 16 kHz, each with its transcript: one pass each.

    A recording without speech has none. Raises the domain error of the reasoner.
    """
    passages: list[Passage] = []
    for number, (start, speech) in enumerate(await asyncio.to_thread(_stretches, samples)):
        passage = await transcript_of(speech, f"{turn_id}-{number}", backend, caller, _ignore)
        start_s = start / HEARING_RATE_HZ
        if passage.text:
            passages.append(Passage(start_s, start_s + len(speech) / HEARING_RATE_HZ, passage.text))
    return passages


def _stretches(samples: Samples) -> list[tuple[int, Samples]]:
    """The stretches of speech that turn detection finds: the first sample and the samples of each."""
    detector = TurnDetector(TurnDetection(), HEARING_RATE_HZ)
    stretches: list[tuple[int, list[Samples]]] = []
    for found in detector.push(samples):
        if isinstance(found, Started):
            stretches.append((found.at_ms * HEARING_RATE_HZ // 1000, []))
        elif isinstance(found, np.ndarray):
            stretches[-1][1].append(found)
    if len(rest := detector.cut()):
        stretches[-1][1].append(rest)
    joined = [(start, np.concatenate(pieces)) for start, pieces in stretches if pieces]
    return [(start, speech) for start, speech in joined if not is_silent(energy_of(speech), len(speech))]


async def _ignore(text: str) -> None:
    """Drop a piece: only the whole transcript is wanted."""
