"""Consents to the cloning of voices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from chroma.v1 import consent_pb2


@dataclass(frozen=True)
class ConsentedVoice:
    """A voice that was enrolled under a consent. `erased` is None while the voice is there."""

    voice_id: str
    created: datetime
    erased: datetime | None


@dataclass(frozen=True)
class Consent:
    """A consent: who agreed, to what, for which recording. It stays when its voices are deleted.

    `subject` is the person, empty if only `words` say it. `key_id` names the key whose caller stated the consent.
    `revoked` is None while the consent holds.
    """

    consent_id: str
    subject: str
    words: str
    recording_sha256: str
    key_id: str
    created: datetime
    revoked: datetime | None
    voices: tuple[ConsentedVoice, ...]

    @classmethod
    def from_proto(cls, consent: consent_pb2.Consent) -> Consent:
        """Return the value of the wire message."""
        voices = tuple(
            ConsentedVoice(
                voice.voice_id,
                _time(voice.create_time),
                _time(voice.erase_time) if voice.HasField("erase_time") else None,
            )
            for voice in consent.voices
        )
        return cls(
            consent_id=consent.consent_id,
            subject=consent.subject,
            words=consent.words,
            recording_sha256=consent.recording_sha256,
            key_id=consent.key_id,
            created=_time(consent.create_time),
            revoked=_time(consent.revoke_time) if consent.HasField("revoke_time") else None,
            voices=voices,
        )


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
