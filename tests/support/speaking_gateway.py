"""A gateway whose replies can be heard, and which can go away or lose a voice in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from chroma.v1 import audio_pb2, dialogue_pb2, generation_pb2
from tests.support.fake_gateway import FakeGateway
from tests.support.scripted_target import tone

TEXT = "Fold a tortilla."


class SpeakingGateway(FakeGateway):
    """Each reply says `TEXT`: half a second of a tone in two pieces, or of silence while `is_silent`.

    After `gone_after` replies every call fails with UNAVAILABLE. `deleted` has the voices that were deleted.
    """

    def __init__(self, *voices: str, gone_after: int | None = None) -> None:
        super().__init__()
        self.page = 100
        self.voices = {name: dialogue_pb2.Voice(voice_id=name, transcript="Said.") for name in voices}
        self.gone_after = gone_after
        self.is_silent = False
        self.failing: set[str] = set()
        """Voices whose replies fail."""
        self.deleted: list[str] = []
        self.replies = 0
        self._speaks = ""

    async def ListVoices(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._be_there(context)
        return await super().ListVoices(request, context)

    async def DeleteVoice(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._be_there(context)
        self.deleted.append(request.voice_id)
        return await super().DeleteVoice(request, context)

    async def _be_there(self, context: Any) -> None:
        if self.gone_after is not None and self.replies >= self.gone_after:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async def _opened(self, opening: Any, context: Any) -> dialogue_pb2.ConverseResponse:
        await self._be_there(context)
        self._speaks = opening.new_session.voice_id
        return await super()._opened(opening, context)

    async def _reply(self, context: Any) -> AsyncIterator[dialogue_pb2.ConverseResponse]:
        turn_id = f"turn-{self.replies}"
        self.replies += 1
        yield dialogue_pb2.ConverseResponse(turn_started=dialogue_pb2.TurnStarted(turn_id=turn_id))
        done = dialogue_pb2.TurnDone(turn_id=turn_id, outcome=dialogue_pb2.TURN_OUTCOME_COMPLETED, text=TEXT)
        if self._speaks in self.failing:
            done.outcome = dialogue_pb2.TURN_OUTCOME_FAILED
            done.error.code = grpc.StatusCode.INTERNAL.value[0]
            done.error.message = "a step failed"
            yield dialogue_pb2.ConverseResponse(turn_done=done)
            return
        piece = bytes(12_000) if self.is_silent else tone(0.25)
        for index in range(2):
            pcm = audio_pb2.Pcm(first_sample=index * 6_000, data=piece)
            yield dialogue_pb2.ConverseResponse(audio=dialogue_pb2.AudioDelta(turn_id=turn_id, pcm=pcm))
        done.speech_end = generation_pb2.END_REASON_EOS
        yield dialogue_pb2.ConverseResponse(turn_done=done)
