"""The settings of a Realtime session: updates, the beta's names, and the conversation's options."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.api.errors import BadParameter
from gateway.api.realtime.session import RealtimeSession, SessionIn
from gateway.conversation.vad import TurnDetection
from services.common.errors import InvalidArgument

_SESSION = RealtimeSession("s", "m", "ada", "Be kind.")


def _updated(**fields: Any) -> RealtimeSession:
    return _SESSION.updated(SessionIn.model_validate(fields))


def test_an_empty_update_changes_nothing() -> None:
    assert _updated() == _SESSION


def test_the_beta_fields_mean_the_same_as_the_current_ones() -> None:
    current = _updated(
        output_modalities=["text"],
        max_output_tokens=20,
        audio={
            "input": {
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": "m"},
                "turn_detection": {"silence_duration_ms": 700},
            },
            "output": {"format": {"type": "audio/pcma"}, "voice": "bob"},
        },
    )
    beta = _updated(
        modalities=["text"],
        max_response_output_tokens=20,
        input_audio_format="g711_ulaw",
        input_audio_transcription={"model": "m"},
        turn_detection={"type": "server_vad", "silence_duration_ms": 700},
        output_audio_format="g711_alaw",
        voice="bob",
    )
    assert current == beta
    assert (current.voice, current.text_only, current.output_format) == ("bob", True, "audio/pcma")
    assert current.turn_detection == TurnDetection(silence_ms=700)


def test_null_and_false_turn_detection_off_and_an_unset_one_stays() -> None:
    for off in (None, False):
        assert _updated(audio={"input": {"turn_detection": off}}).turn_detection is None
    assert _updated(audio={"input": {}}).turn_detection == _SESSION.turn_detection


def test_eagerness_is_a_length_of_silence() -> None:
    def silence_ms(eagerness: str) -> int:
        detection = {"type": "semantic_vad", "eagerness": eagerness}
        detected = _updated(audio={"input": {"turn_detection": detection}}).turn_detection
        assert detected is not None
        return detected.silence_ms

    assert silence_ms("high") < silence_ms("medium") < silence_ms("low")


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0}, {"temperature": float("inf")}, {"max_output_tokens": 0}, {"tools": [1]}, {"colour": "red"}],
    ids=str,
)
def test_values_out_of_range_and_unknown_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SessionIn.model_validate(fields)


def test_a_wrong_sample_rate_names_its_field() -> None:
    with pytest.raises(BadParameter) as raised:
        _updated(audio={"input": {"format": {"type": "audio/pcm", "rate": 8_000}}})
    assert raised.value.param == "session.audio.input.format.rate"


def test_turn_detection_out_of_range_is_invalid() -> None:
    with pytest.raises(InvalidArgument, match="threshold"):
        _updated(audio={"input": {"turn_detection": {"threshold": 1.5}}})


def test_g711_means_8_khz_for_the_conversation() -> None:
    for audio_format, rate_hz in (("audio/pcm", 24_000), ("audio/pcmu", 8_000)):
        options = _updated(audio={"input": {"format": {"type": audio_format}}}).options
        assert options.input_format is not None
        assert options.input_format.sample_rate_hz == rate_hz


def test_both_session_objects_show_the_same_settings() -> None:
    session = _updated(audio={"input": {"format": {"type": "audio/pcmu"}}}, max_output_tokens=20)
    current, beta = session.to_dict(60), session.to_beta_dict(60)
    assert current["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert beta["input_audio_format"] == "g711_ulaw"
    assert current["max_output_tokens"] == beta["max_response_output_tokens"] == 20
    assert current["audio"]["output"]["voice"] == beta["voice"] == "ada"
    assert current["audio"]["input"]["turn_detection"] == beta["turn_detection"]
