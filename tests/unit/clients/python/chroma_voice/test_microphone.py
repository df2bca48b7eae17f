from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Self

import pytest

from chroma_voice.errors import FailedPrecondition
from chroma_voice.microphone import RATE_HZ, Speaker, microphone, play, sound_devices


class Stream:
    """A sound card's stream: records one piece at once, keeps what is played."""

    opened: list[Stream]

    def __init__(self, *, callback: Callable[..., None] | None = None, **settings: Any) -> None:
        self.settings = settings
        self.callback = callback
        self.played: list[bytes] = []
        self.calls: list[str] = []
        Stream.opened.append(self)

    def __enter__(self) -> Self:
        assert self.callback is not None
        self.callback(memoryview(b"\x01\x00" * 960), 960, None, None)
        return self

    def __exit__(self, *error: object) -> None:
        self.calls.append("closed")

    def write(self, data: bytes) -> None:
        self.played.append(data)

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


@pytest.fixture
def sound_card(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    Stream.opened = []
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(RawInputStream=Stream, RawOutputStream=Stream))
    return Stream.opened


async def test_the_microphone_gives_pcm_and_closes_with_its_iterator(sound_card: list[Stream]) -> None:
    sound = microphone()
    assert await anext(sound) == b"\x01\x00" * 960
    await sound.aclose()
    (stream,) = sound_card
    assert (stream.settings["samplerate"], stream.settings["dtype"]) == (RATE_HZ, "int16")
    assert stream.calls == ["closed"]


async def test_a_microphone_that_stops_in_mid_run_is_a_clear_error(sound_card: list[Stream]) -> None:
    sound = microphone()
    assert await anext(sound) == b"\x01\x00" * 960
    sound_card[0].settings["finished_callback"]()
    with pytest.raises(FailedPrecondition, match="the microphone has stopped"):
        await anext(sound)
    assert sound_card[0].calls == ["closed"]


async def test_a_reply_is_played_to_its_end(sound_card: list[Stream]) -> None:
    async def sound() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    await play(sound())
    (stream,) = sound_card
    assert stream.played == [b"ab", b"cd"]
    assert stream.calls == ["start", "stop", "abort", "close"]


async def test_a_missing_sound_card_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(FailedPrecondition, match="pip install sounddevice"):
        await anext(microphone())


async def test_a_loudspeaker_that_fails_in_mid_reply_is_a_clear_error(
    sound_card: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sound() -> AsyncIterator[bytes]:
        yield b"ab"

    class PortAudioError(Exception):
        pass

    def fail(self: Stream, data: bytes) -> None:
        raise PortAudioError("Device unavailable")

    monkeypatch.setattr(sys.modules["sounddevice"], "PortAudioError", PortAudioError, raising=False)
    monkeypatch.setattr(Stream, "write", fail)
    with pytest.raises(FailedPrecondition, match="no loudspeaker: Device unavailable"):
        await play(sound())
    assert sound_card[0].calls == ["start", "abort", "close"]


class CallbackCard:
    """A sound card that plays when the test says so."""

    default = SimpleNamespace(device=[1, 0])

    def __init__(
        self, *, callback: Callable[..., None], finished_callback: Callable[[], None], **settings: Any
    ) -> None:
        CallbackCard.callback = callback  # pyright: ignore[reportAttributeAccessIssue]
        CallbackCard.finished = finished_callback  # pyright: ignore[reportAttributeAccessIssue]

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: None


@pytest.fixture
def callback_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(RawOutputStream=CallbackCard))


def play_next(samples: int) -> bytes:
    """Let the card play its next samples."""
    piece = bytearray(2 * samples)
    CallbackCard.callback(memoryview(piece), samples, None, None)  # pyright: ignore[reportAttributeAccessIssue]
    return bytes(piece)


@pytest.mark.usefixtures("callback_card")
async def test_the_loudspeaker_plays_in_order_and_tells_when_all_was_played() -> None:
    with Speaker() as speaker:
        await speaker.finish()
        speaker.begin()
        speaker.play(b"\1\0" * 3)
        speaker.play(b"\2\0" * 3)
        assert speaker.is_playing
        assert play_next(4) == b"\1\0" * 3 + b"\2\0"
        assert play_next(4) == b"\2\0" * 2 + bytes(4), "silence follows"
        await speaker.finish()
        assert not speaker.is_playing
        assert speaker.interrupt() == 6 / 24_000


@pytest.mark.usefixtures("callback_card")
async def test_an_interruption_drops_what_was_not_played_and_a_new_reply_counts_anew() -> None:
    with Speaker() as speaker:
        speaker.play(b"\1\0" * 24_000)
        play_next(12_000)
        assert speaker.interrupt() == 0.5
        assert play_next(2) == bytes(4)
        speaker.begin()
        assert speaker.interrupt() == 0.0


@pytest.mark.usefixtures("callback_card")
async def test_a_loudspeaker_that_stops_ends_the_wait_and_takes_no_more_sound() -> None:
    with Speaker() as speaker:
        speaker.play(b"\1\0" * 24_000)
        CallbackCard.finished()  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(FailedPrecondition, match="the loudspeaker has stopped"):
            await speaker.finish()
        assert not speaker.is_playing
        with pytest.raises(FailedPrecondition, match="the loudspeaker has stopped"):
            speaker.play(b"\1\0")


@pytest.mark.usefixtures("callback_card")
async def test_a_loudspeaker_that_is_closed_has_not_failed() -> None:
    with Speaker() as speaker:
        pass
    CallbackCard.finished()  # pyright: ignore[reportAttributeAccessIssue]
    await speaker.finish()
    await asyncio.sleep(0)  # the card's message arrives
    await speaker.finish()


def test_the_devices_are_told_with_the_systems_default(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        {"name": "Speaker", "max_input_channels": 0, "max_output_channels": 2},
        {"name": "Mic", "max_input_channels": 1, "max_output_channels": 0},
        {"name": "Other", "max_input_channels": 1, "max_output_channels": 0},
    ]
    card = SimpleNamespace(default=SimpleNamespace(device=[1, 0]), query_devices=lambda: found)
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    assert [(device.name, device.inputs, device.is_default) for device in sound_devices()] == [
        ("Speaker", 0, True),
        ("Mic", 1, True),
        ("Other", 1, False),
    ]


async def test_a_device_that_cannot_be_opened_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class PortAudioError(Exception):
        pass

    def refuse(**settings: Any) -> None:
        raise PortAudioError("Invalid number of channels")

    card = SimpleNamespace(RawInputStream=refuse, RawOutputStream=refuse, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    with pytest.raises(FailedPrecondition, match="no microphone: Invalid number of channels"):
        await anext(microphone())
    with pytest.raises(FailedPrecondition, match="no loudspeaker: Invalid number of channels"):
        Speaker()
