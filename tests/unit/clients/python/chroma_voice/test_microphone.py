from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Self

import pytest

from chroma_voice.errors import FailedPrecondition
from chroma_voice.microphone import RATE_HZ, microphone, play


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
    with pytest.raises(FailedPrecondition, match=r"chroma-voice-client\[microphone\]"):
        await anext(microphone())
