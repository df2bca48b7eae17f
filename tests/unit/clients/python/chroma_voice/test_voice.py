from __future__ import annotations

from datetime import UTC, datetime

from chroma.v1 import dialogue_pb2
from chroma_voice import Voice


def test_a_voice_has_its_consent_and_its_time_in_utc() -> None:
    sent = dialogue_pb2.Voice(
        voice_id="ann", display_name="Ann", transcript="Hello.", duration_s=4.5, consent="Ann, in writing"
    )
    sent.create_time.FromSeconds(86_400)
    created = datetime(1970, 1, 2, tzinfo=UTC)
    assert Voice.from_proto(sent) == Voice("ann", "Ann", "Hello.", 4.5, created, "Ann, in writing")
