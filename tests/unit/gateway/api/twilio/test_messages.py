"""Twilio's messages, and the parameters of a stream."""

from __future__ import annotations

import pytest

from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit
from gateway.api.twilio.messages import Parameters, StartMessage, read_message


async def test_the_parameters_of_a_stream_become_settings_of_a_session() -> None:
    given = {"voice": "ann", "instructions": "Be brief.", "session": '{"temperature": 0.5, "voice": "bob"}', "own": "1"}
    settings = await fit(given, Parameters).settings()
    assert settings == {"temperature": 0.5, "voice": "ann", "instructions": "Be brief."}


@pytest.mark.parametrize(
    "text", [None, "", "[]", "1", '{"event": 1}', "{}", '{"event": "x", "y": "' + "a" * 70_000 + '"}']
)
async def test_what_is_no_message_is_refused(text: str | None) -> None:
    with pytest.raises(BadParameter):
        await read_message(text)


@pytest.mark.parametrize(
    "media_format", [{"encoding": "audio/x-alaw"}, {"sampleRate": 16_000}, {"channels": 2}], ids=str
)
def test_a_stream_of_another_format_is_refused(media_format: dict[str, object]) -> None:
    with pytest.raises(BadParameter):
        fit({"streamSid": "MZ1", "start": {"mediaFormat": media_format}}, StartMessage)
