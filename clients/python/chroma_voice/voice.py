"""Enrolled voices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from chroma.v1 import dialogue_pb2


@dataclass(frozen=True)
class Voice:
    """An enrolled voice. `duration_s` is the length of its recording; `consent` says who agreed to its use, and how.

    `consent_id` names the record of the consent; it is empty for a voice of an earlier version.
    """

    voice_id: str
    display_name: str
    transcript: str
    duration_s: float
    created: datetime
    consent: str
    consent_id: str = ""

    @classmethod
    def from_proto(cls, voice: dialogue_pb2.Voice) -> Voice:
        """Return the value of the wire message."""
        return cls(
            voice_id=voice.voice_id,
            display_name=voice.display_name,
            transcript=voice.transcript,
            duration_s=voice.duration_s,
            created=voice.create_time.ToDatetime(tzinfo=UTC),
            consent=voice.consent,
            consent_id=voice.consent_id,
        )
