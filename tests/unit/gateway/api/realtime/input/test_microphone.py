"""Sound that comes by itself: it goes to turn detection, or is kept for the commit."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.api.realtime.input.microphone import Microphone
from gateway.conversation.conversation import Conversation
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import TurnDetection


class _Conversation:
    """Notes its audio, and whether it was held meanwhile."""

    def __init__(self, detection: TurnDetection | None) -> None:
        self.options = ConversationOptions(turn_detection=detection)
        self.handling = asyncio.Lock()
        self.taken: list[tuple[bytes, bool]] = []

    async def append_audio(self, data: bytes) -> None:
        self.taken.append((data, self.handling.locked()))


def _microphone(detection: TurnDetection | None, max_s: float) -> tuple[Microphone, _Conversation]:
    conversation = _Conversation(detection)
    return Microphone(cast(Conversation, conversation), max_s), conversation


async def test_turn_detection_gets_all_sound_while_no_message_is_handled() -> None:
    microphone, conversation = _microphone(TurnDetection(), 1.0)
    await microphone.push(b"ab")
    await microphone.push(b"cd")
    assert conversation.taken == [(b"ab", True), (b"cd", True)]


async def test_without_turn_detection_the_commit_gets_the_last_seconds() -> None:
    microphone, conversation = _microphone(None, 2 / 24_000)
    for piece in (b"ab", b"cd", b"ef"):
        await microphone.push(piece)
    assert conversation.taken == []
    await microphone.release()
    await microphone.release()
    assert conversation.taken == [(b"cdef", False)], "two samples, once"


@pytest.mark.parametrize("detection", [None, TurnDetection()])
async def test_what_is_kept_does_not_outlive_a_clear_or_the_start_of_turn_detection(
    detection: TurnDetection | None,
) -> None:
    microphone, conversation = _microphone(None, 1.0)
    await microphone.push(b"ab")
    if detection is None:
        microphone.clear()
    else:
        conversation.options = SimpleNamespace(turn_detection=detection)  # pyright: ignore[reportAttributeAccessIssue]
        await microphone.push(b"cd")
        conversation.taken.clear()
    await microphone.release()
    assert conversation.taken == []
