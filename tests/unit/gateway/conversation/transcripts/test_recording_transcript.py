"""The transcript of a recording: its pieces, its passages, and the turn that it counts as."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from chroma.v1.generation_pb2 import END_REASON_EOS, END_REASON_LIMIT, EndReason
from gateway.access.caller import DEFAULT_TENANT, Caller
from gateway.conversation.backend import Backend
from gateway.conversation.transcripts import recording_transcript as module
from gateway.conversation.transcripts.recording_transcript import counted, passages_of, transcript_of
from gateway.pipeline.deltas import TextDelta
from services.common.errors import OutOfRange

CALLER = Caller(DEFAULT_TENANT)


class FakeUsage:
    """Counts turns."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[tuple[str, float]] = []

    async def begin_turn(self, caller: Caller, turn_id: str) -> None:
        self.begun.append(turn_id)

    async def end_turn(self, caller: Caller, turn_id: str, *, input_s: float, output_s: float) -> None:
        self.ended.append((turn_id, input_s))


class FakeBackend:
    settings = None

    def __init__(self) -> None:
        self.usage = FakeUsage()

    def upstreams_of(self, caller: Caller) -> None:
        return None


def _written(monkeypatch: pytest.MonkeyPatch, *pieces: str, end: EndReason.ValueType = END_REASON_EOS) -> None:
    """Each pass of the reasoner gives these pieces."""

    async def write_down(pcm: bytes, encoding: Any, turn_id: str, upstreams: Any, settings: Any, take: Any) -> Any:
        for piece in pieces:
            await take(TextDelta(turn_id, piece, 0))
        thoughts = [SimpleNamespace(text=piece) for piece in pieces]
        return SimpleNamespace(text_end=end, thoughts=thoughts, prompt=SimpleNamespace(prompt_tokens=30))

    monkeypatch.setattr(module, "write_down", write_down)


async def test_the_pieces_joined_are_the_transcript_without_space_at_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    _written(monkeypatch, " ", " Hello", ",", " ", "you", ". ", " ")
    taken: list[str] = []

    async def take(text: str) -> None:
        taken.append(text)

    backend = cast(Backend, FakeBackend())
    passage = await transcript_of(np.zeros(16_000, np.float32), "t", backend, CALLER, take)
    assert (passage.text, "".join(taken)) == ("Hello, you.", "Hello, you.")
    assert (passage.end_s, passage.input_tokens, passage.output_tokens) == (1.0, 30, 7)


async def test_a_transcript_that_was_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _written(monkeypatch, "Hello", end=END_REASON_LIMIT)
    with pytest.raises(OutOfRange, match="at most 1 tokens"):
        await transcript_of(np.zeros(16_000, np.float32), "t", cast(Backend, FakeBackend()), CALLER, module._ignore)


async def test_a_recording_without_speech_has_no_passage(monkeypatch: pytest.MonkeyPatch) -> None:
    _written(monkeypatch, "Hello")
    assert await passages_of(np.zeros(32_000, np.float32), "t", cast(Backend, FakeBackend()), CALLER) == []


async def test_a_recording_counts_as_one_turn_with_its_seconds_also_when_it_fails() -> None:
    backend = FakeBackend()
    with pytest.raises(OutOfRange):
        async with counted(cast(Backend, backend), CALLER, 2.5):
            raise OutOfRange("too long")
    (turn_id,) = backend.usage.begun
    assert backend.usage.ended == [(turn_id, 2.5)]
