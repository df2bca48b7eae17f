"""Enrolment of the sample voices in a running gateway."""

from __future__ import annotations

from collections.abc import Sequence

from chroma_voice.client import Client
from chroma_voice.local.repository import SampleVoice


async def enrol(voices: Sequence[SampleVoice], gateway: str, *, only_if_none: bool, api_key: str = "") -> list[str]:
    """Enrol the voices that the gateway at the address `gateway` does not have. Returns the ids of the new voices.

    With `only_if_none`, a gateway that has a voice gets no others. Raises the `ChromaError` of a call that fails.
    """
    async with Client(gateway, api_key=api_key) as client:
        known = {voice.voice_id async for voice in client.list_voices()}
        if known and only_if_none:
            return []
        new = [voice for voice in voices if voice.voice_id not in known]
        for voice in new:
            await client.create_voice(
                voice.voice_id,
                audio_file=voice.recording.read_bytes(),
                transcript=voice.transcript,
                consent=voice.consent,
                display_name=voice.voice_id.capitalize(),
            )
    return [voice.voice_id for voice in new]
