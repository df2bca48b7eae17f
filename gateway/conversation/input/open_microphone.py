"""A client's open microphone: turn detection begins, fills and ends the input turns of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.conversation.input.input_audio import InputAudioBuffer
from gateway.conversation.input.input_turn import InputTurn
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import SpeechStarted, SpeechStopped
from gateway.conversation.turns.active_turns import ActiveTurns
from gateway.conversation.vad import Started, Stopped
from services.common.wire.pcm import Samples


class OpenMicrophone:
    """Takes the audio of one client whose turns the server detects.

    `commit` ends the input turn. `interrupt` stops the running reply, and what the gateway plays.
    """

    def __init__(
        self,
        audio: InputAudioBuffer,
        turns: ActiveTurns,
        events: EventQueue,
        input_turn: InputTurn,
        commit: Callable[[], Awaitable[None]],
        interrupt: Callable[[], Awaitable[None]],
    ) -> None:
        self._audio = audio
        self._turns = turns
        self._events = events
        self._input = input_turn
        self._commit = commit
        self._interrupt = interrupt
        self._speech_ms: float | None = None
        """The place in the client's audio up to which the turn has the speech under way. None: the turn has no room for
        this speech."""

    async def append(self, data: bytes) -> None:
        """Take whole samples in the client's format. Raises InvalidArgument for samples that are no numbers."""
        for samples in await self._audio.decode(data):
            for found in await self._audio.detect(samples):
                await self._take(found)

    async def end_stopped_turns(self, handling: asyncio.Lock) -> None:
        """End each turn whose audio stays away in the middle of speech. Runs until it is cancelled."""
        while True:
            await self._audio.audio_stops()
            async with handling:
                for found in self._audio.end_stopped_audio():
                    await self._take(found)

    async def _take(self, found: Started | Samples | Stopped) -> None:
        """Handle the start, a piece or the end of the user's speech.

        Speech that has no room in its turn ends the turn. The rest of the speech is a further turn, which does not
        interrupt the reply; if the client commits its turns, the rest is dropped.
        """
        detection, audio_format = self._audio.options.turn_detection, self._audio.options.input_format
        assert detection is not None, "turn detection is on"
        assert audio_format is not None, "turn detection is on"
        rate_hz = audio_format.sample_rate_hz
        if isinstance(found, Started):
            if self._turns.input_turn is not None and not self._input.source().has_room(rate_hz):
                self._speech_ms = None
            else:
                await self._start(found.at_ms, interrupt=detection.interrupt)
        elif self._speech_ms is None:
            return
        elif isinstance(found, Stopped):
            await self._stop(found.at_ms, respond=detection.respond)
        else:
            if not self._input.source().has_room(len(found)):
                await self._stop(self._speech_ms, respond=detection.respond)
                if not detection.respond:
                    self._speech_ms = None
                    return
                await self._start(self._speech_ms, interrupt=False)
            self._input.source().add_samples(found)
            self._speech_ms += len(found) * 1000 / rate_hz

    async def _start(self, at_ms: float, *, interrupt: bool) -> None:
        self._speech_ms = at_ms
        if interrupt:
            await self._interrupt()
        self._input.source()
        await self._events.put(SpeechStarted(self._turn_id(), round(at_ms)))

    async def _stop(self, at_ms: float, *, respond: bool) -> None:
        turn_id = self._turn_id()
        recording = self._input.end_speech()
        recording_id = recording.recording_id if recording is not None else ""
        await self._events.put(SpeechStopped(turn_id, round(at_ms), recording_id))
        if respond and self._turns.input_turn is not None:
            await self._commit()

    def _turn_id(self) -> str:
        assert self._turns.input_turn is not None, "an input turn has begun"
        return self._turns.input_turn.turn.turn_id
