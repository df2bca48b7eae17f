"""The settings of a Realtime session: updates, the beta's names, and the conversation's options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.session.session import Format, RealtimeSession
from gateway.api.realtime.session.update import SessionIn
from gateway.conversation.vad import TurnDetection

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
    assert (current.voice, current.text_only, current.output_format) == ("bob", True, Format("audio/pcma", 8_000))
    assert current.turn_detection == TurnDetection(silence_ms=700)


def test_null_and_false_turn_detection_off_and_an_unset_one_stays() -> None:
    for off in (None, False):
        assert _updated(audio={"input": {"turn_detection": off}}).turn_detection is None
    assert _updated(audio={"input": {}}).turn_detection == _SESSION.turn_detection


def test_the_extensions_of_turn_detection_are_shown_when_they_are_set() -> None:
    wanted = {"type": "server_vad", "min_speech_duration_ms": 90_000, "ignore_echo": True}
    session = _updated(audio={"input": {"turn_detection": wanted}})
    assert session.turn_detection == TurnDetection(speech_ms=2_000, ignore_echo=True)
    shown = session.to_dict(60)["audio"]["input"]["turn_detection"]
    assert (shown["min_speech_duration_ms"], shown["ignore_echo"]) == (2_000, True)
    assert not {"min_speech_duration_ms", "ignore_echo"} & set(_SESSION.to_dict(60)["audio"]["input"]["turn_detection"])


def test_eagerness_is_a_length_of_silence() -> None:
    def silence_ms(eagerness: str) -> int:
        detection = {"type": "semantic_vad", "eagerness": eagerness}
        detected = _updated(audio={"input": {"turn_detection": detection}}).turn_detection
        assert detected is not None
        return detected.silence_ms

    assert silence_ms("high") < silence_ms("medium") < silence_ms("low")


def test_a_rate_that_the_encoding_cannot_have_names_its_field() -> None:
    with pytest.raises(BadParameter) as raised:
        _updated(audio={"input": {"format": {"type": "audio/pcmu", "rate": 24_000}}})
    assert raised.value.param == "session.audio.input.format.rate"


def test_pcm_may_have_another_rate() -> None:
    audio_format = {"type": "audio/pcm", "rate": 16_000}
    session = _updated(audio={"input": {"format": audio_format}, "output": {"format": audio_format}})
    assert session.options.input_format is not None
    assert session.options.input_format.sample_rate_hz == session.output_format.rate_hz == 16_000
    assert session.to_dict(0)["audio"]["input"]["format"] == audio_format


def test_a_format_may_be_a_name_alone() -> None:
    for name in ("g711_ulaw", "audio/pcmu"):
        assert _updated(audio={"input": {"format": name}}).input_format == Format("audio/pcmu", 8_000)


@pytest.mark.parametrize(
    ("wanted", "had"),
    [
        ({"threshold": 0}, TurnDetection(threshold=0.01)),
        ({"threshold": 1}, TurnDetection(threshold=0.99)),
        ({"silence_duration_ms": 0}, TurnDetection(silence_ms=50)),
        ({"min_speech_duration_ms": 60_000}, TurnDetection(speech_ms=2_000)),
        (
            {"silence_duration_ms": 60_000, "prefix_padding_ms": 60_000},
            TurnDetection(silence_ms=10_000, prefix_ms=10_000),
        ),
    ],
    ids=str,
)
def test_a_turn_detection_that_cannot_be_had_becomes_the_nearest_one(
    wanted: dict[str, Any], had: TurnDetection
) -> None:
    assert _updated(audio={"input": {"turn_detection": wanted}}).turn_detection == had


def test_a_server_that_does_not_transcribe_shows_no_transcription() -> None:
    session = replace(_SESSION, can_transcribe=False)
    updated = session.updated(SessionIn.model_validate({"input_audio_transcription": {"model": "m"}}))
    assert updated.to_dict(0)["audio"]["input"]["transcription"] is None
    assert not updated.options.transcribe
    with pytest.raises(BadParameter) as raised:
        session.updated(SessionIn(type="transcription"))
    assert raised.value.param == "session.type"


def test_a_transcription_session_transcribes_and_does_not_reply() -> None:
    session = _updated(type="transcription")
    assert session.options.transcribe_recordings
    assert not session.options.replies
    assert session.options.turn_detection is not None
    assert not session.options.turn_detection.respond
    shown = session.to_dict(60)
    assert (shown["type"], shown["object"]) == ("transcription", "realtime.transcription_session")
    assert "output" not in shown["audio"]
    assert session.to_beta_dict(60)["input_audio_format"] == "pcm16"


def test_the_limit_of_tokens_is_an_option_and_inf_takes_it_away() -> None:
    limited = _updated(max_output_tokens=6)
    assert limited.options.max_output_tokens == 6
    assert limited.updated(SessionIn(max_output_tokens="inf")).options.max_output_tokens is None


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
