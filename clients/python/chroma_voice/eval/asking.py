"""One question to a gateway and its spoken reply, with the time that it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from chroma_voice.bench.listening.listener import Listener
from chroma_voice.client import Client
from chroma_voice.events import SAMPLE_RATE_HZ, AudioDelta
from chroma_voice.session import Sampling


@dataclass(frozen=True)
class Typed:
    """A question as text."""

    text: str


@dataclass(frozen=True)
class Recorded:
    """A spoken question: mono samples [S] with full scale 1.0."""

    samples: NDArray[np.float32]
    sample_rate_hz: int

    @property
    def speech(self) -> bytes:
        """The samples as 16-bit little-endian PCM."""
        return (self.samples * 32767).clip(-32768, 32767).round().astype("<i2").tobytes()


@dataclass(frozen=True)
class Given:
    """A text that the voice speaks as it is, without the thinker."""

    text: str


Asked = Typed | Recorded | Given


@dataclass(frozen=True)
class Heard:
    """A spoken reply. Waits are seconds since the question was complete; None: there was no such sound.

    `ended` is the reason why the sound ended ("eos", "limit", ...). The real-time factor is the time from the first to
    the last piece for each second of sound before the last; None below two pieces.
    """

    text: str
    samples: NDArray[np.int16]
    ended: str
    first_piece_s: float | None
    first_sound_s: float | None
    real_time_factor: float | None

    @property
    def seconds(self) -> float:
        """Seconds of sound."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def write(self, path: Path) -> None:
        """Write the sound to a WAV file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, self.samples, SAMPLE_RATE_HZ, subtype="PCM_16")


async def hear(
    client: Client,
    voice: str,
    asked: Asked,
    *,
    max_reply_s: float | None = None,
    seed: int | None = None,
    store: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Heard:
    """Ask in a new conversation and receive the whole reply, as fast as the gateway makes it.

    The question is sent at once, not as fast as it was spoken. `seed` draws the same codes again. Without `store` the
    gateway keeps nothing of it. Raises the `ChromaError` of a failed turn.
    """
    async with client.conversation(
        voice=voice,
        input_rate_hz=asked.sample_rate_hz if isinstance(asked, Recorded) else None,
        max_reply_s=max_reply_s,
        max_lead_s=0,
        sampling=None if seed is None else Sampling(seed=seed),
        store=store,
    ) as talk:
        if isinstance(asked, Recorded):
            await talk.send_audio(asked.speech)
        elif isinstance(asked, Typed):
            await talk.send_text(asked.text)
        begun_s = clock()
        if isinstance(asked, Given):
            await talk.say(asked.text)
        else:
            await talk.commit()
        listener = Listener(SAMPLE_RATE_HZ)
        pieces: list[bytes] = []
        reply = talk.reply()
        async for event in reply:
            if isinstance(event, AudioDelta):
                listener.receive(event.data, clock() - begun_s)
                pieces.append(event.data)
        done = await reply.done()
    done.raise_for_error()
    return Heard(
        text=done.text,
        samples=np.frombuffer(b"".join(pieces), dtype="<i2").astype(np.int16),
        ended=done.speech_end,
        first_piece_s=listener.first_piece_s,
        first_sound_s=listener.first_sound_s,
        real_time_factor=listener.real_time_factor,
    )
