"""Audio and events on a Realtime connection."""

from __future__ import annotations

import base64

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.events.wire import EventFactory, ReplyAudioEncoder, decode_audio
from gateway.api.realtime.session.session import Format


async def test_pcm_passes_unchanged_both_ways() -> None:
    pcm = bytes(range(8))
    text = base64.b64encode(pcm).decode()
    assert await decode_audio(text, Format(), "audio") == pcm
    encoder = ReplyAudioEncoder(Format())
    assert (encoder.push(pcm), encoder.finish()) == (text, "")


async def test_g711_is_8_khz_with_one_byte_a_sample() -> None:
    assert len(await decode_audio(base64.b64encode(bytes(80)).decode(), Format("audio/pcmu", 8_000), "audio")) == 160
    encoder = ReplyAudioEncoder(Format("audio/pcma", 8_000))
    data = base64.b64decode(encoder.push(bytes(2 * 24_000))) + base64.b64decode(encoder.finish())
    assert len(data) == 8_000


def test_pcm_of_another_rate_is_resampled() -> None:
    encoder = ReplyAudioEncoder(Format(rate_hz=16_000))
    data = base64.b64decode(encoder.push(bytes(2 * 24_000))) + base64.b64decode(encoder.finish())
    assert len(data) == 2 * 16_000


@pytest.mark.parametrize("text", [None, 3, "no base64!", "é", "\ud83d"])
async def test_bad_audio_names_its_field(text: object) -> None:
    with pytest.raises(BadParameter) as raised:
        await decode_audio(text, Format(), "item.content.0.audio")
    assert raised.value.param == "item.content.0.audio"


def test_the_beta_has_its_own_event_names() -> None:
    kinds = ("response.output_audio.delta", "response.output_text.done", "error")
    assert [EventFactory(beta=False).event(kind)["type"] for kind in kinds] == list(kinds)
    beta = [EventFactory(beta=True).event(kind)["type"] for kind in kinds]
    assert beta == ["response.audio.delta", "response.text.done", "error"]
