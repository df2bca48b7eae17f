"""The voices of an evaluation in the deployment: those that are missing are enrolled, and removed after their pairs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chroma_voice.client import Client
from chroma_voice.errors import ChromaError, FailedPrecondition, NotFound
from chroma_voice.eval.pairs import PairVoice


@asynccontextmanager
async def enrolled(client: Client, name: str, voice: PairVoice | None) -> AsyncIterator[None]:
    """The voice `name` is enrolled inside. What is there already stays as it is.

    `voice` has the recording; None: only the deployment knows it. Raises `FailedPrecondition` when the deployment has
    another voice of this name, or when nobody says who agreed to the cloning; `NotFound` without a recording; and the
    error of a call that fails.
    """
    try:
        known = await client.get_voice(name)
    except NotFound:
        known = None
    if known is not None:
        if voice is not None and _words(known.transcript) != _words(voice.transcript):
            raise FailedPrecondition(
                f"the deployment has another voice {name!r}, with other words: give yours another name, or remove it"
            )
        yield
        return
    if voice is None:
        raise NotFound(f"no voice {name!r}, and no recording of it among the pairs")
    if not voice.consent:
        raise FailedPrecondition(
            f"the voice {name!r} is not enrolled: write into consent.txt who agreed to the cloning, and how"
        )
    recording = voice.recordings[0].read_bytes()
    await client.create_voice(name, audio_file=recording, transcript=voice.transcript, consent=voice.consent)
    try:
        yield
    finally:
        with contextlib.suppress(ChromaError):  # a deployment that is away keeps the voice
            await client.delete_voice(name)


def _words(text: str) -> str:
    return " ".join(text.split())
