"""One telephone call: Twilio's messages become inputs of a `Conversation`, and its replies become sound on the line."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from gateway.access.caller import Caller
from gateway.api.client_json import decode_base64
from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit
from gateway.api.realtime.events.transport import HungUp, WebSocketTransport
from gateway.api.realtime.input.reading import read_until_closing
from gateway.api.realtime.session.session import Format, RealtimeSession
from gateway.api.realtime.session.settings import ConnectionSettings
from gateway.api.realtime.session.update import SessionIn
from gateway.api.twilio.line import TelephoneLine
from gateway.api.twilio.messages import MarkMessage, MediaMessage, Parameters, StartMessage, read_message
from gateway.audio.g711 import RATE_HZ, decode_g711
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.output.events import Event, TurnDone
from gateway.pipeline.deltas import AudioDelta
from gateway.store.sessions import Session
from gateway.tasks import cancel, join
from services.common.errors import ResourceExhausted

_PIECE_BYTES = RATE_HZ * 60 // 1000
"""Sound that goes to turn detection at once, as for a WebRTC call."""
_SPEED, _AHEAD_S = 1.25, 5.0
"""Sound may come this much faster than time goes, and this much more."""
_PLAY_OUT_S = 10.0
"""How long the last reply may be played when the gateway ends the call."""


class TelephoneCall:
    """A call whose stream has started. The caller's seat is taken."""

    def __init__(
        self,
        transport: WebSocketTransport,
        backend: Backend,
        caller: Caller,
        session: Session,
        started: StartMessage,
        parameters: Parameters,
    ) -> None:
        self._transport = transport
        self._parameters = parameters
        self._line = TelephoneLine(started.streamSid, transport.send)
        config = session.config
        realtime = RealtimeSession(session.session_id, parameters.model, config.voice_id, config.system_prompt)
        self._conversation = Conversation(session, realtime.options, backend, caller, self._deliver, player=self._line)
        self._settings = ConnectionSettings(realtime, config, self._conversation, list, backend, caller)
        self._settings.fixed_format = Format("audio/pcmu", RATE_HZ)
        self._sound = bytearray()
        self._sound_s = 0.0
        self._started_s = time.monotonic()

    async def configure(self, given: SessionIn) -> None:
        """Use these settings. Raises BadParameter for those that a telephone cannot have, and what
        `ConnectionSettings.update` raises."""
        await self._settings.update(given)
        if self._settings.session.turn_detection is None:
            raise BadParameter("session.audio.input.turn_detection", "a telephone call needs turn detection")
        if self._settings.session.text_only:
            raise BadParameter("session.output_modalities", "a telephone call needs spoken replies")

    async def run(self, closing: asyncio.Event) -> None:
        """Hold the conversation until the caller hangs up or `closing` is set.

        Raises HungUp when the caller hangs up, and the error that ends the conversation otherwise.
        """
        playing = asyncio.create_task(self._line.run())
        try:
            talking = read_until_closing(self._read(), closing, self._conversation)
            await join(self._follow(playing), talking, self._conversation.run())
            with suppress(TimeoutError):
                async with asyncio.timeout(_PLAY_OUT_S):
                    await self._play_out()
        finally:
            await cancel(playing)

    async def _follow(self, playing: asyncio.Task[None]) -> None:
        """Raise what ends the line: the caller has hung up."""
        await asyncio.wait([playing])
        playing.result()

    async def _read(self) -> None:
        """Greet the caller, then handle Twilio's messages, one at a time."""
        async with self._conversation.handling:
            if self._parameters.greeting:
                await self._conversation.say(self._parameters.greeting, end=True)
            elif self._parameters.speak_first == "true":
                await self._conversation.commit(may_be_empty=True)
        while True:
            await self._take()

    async def _play_out(self) -> None:
        """Wait until the caller has heard what was said. Twilio's marks tell it."""
        played = asyncio.ensure_future(self._line.played())
        try:
            while not played.done():
                taking = asyncio.ensure_future(self._take_mark())
                try:
                    await asyncio.wait([played, taking], return_when=asyncio.FIRST_COMPLETED)
                    if taking.done():
                        taking.result()
                finally:
                    await cancel(taking)
        finally:
            await cancel(played)

    async def _take(self) -> None:
        text = await self._transport.receive()
        event, message = await read_message(text)
        match event:
            case "media":
                media = fit(message, MediaMessage).media
                if media.track == "inbound":
                    await self._hear(media.payload)
            case "mark":
                self._line.marked(fit(message, MarkMessage).mark.name)
            case "stop":
                raise HungUp
            case "connected" | "dtmf":
                return  # the model hears the tones of keys as little as it reads them
            case _:
                raise BadParameter("event", f"unknown event {event[:80]!r}")

    async def _take_mark(self) -> None:
        event, message = await read_message(await self._transport.receive())
        if event == "mark":
            self._line.marked(fit(message, MarkMessage).mark.name)
        elif event == "stop":
            raise HungUp

    async def _hear(self, payload: str) -> None:
        data = await decode_base64(payload, "media.payload", "mu-law sound")
        self._sound_s += len(data) / RATE_HZ
        if self._sound_s > _SPEED * (time.monotonic() - self._started_s) + _AHEAD_S:
            raise ResourceExhausted("more sound comes than time goes by", retry_after_s=1.0)
        self._sound += decode_g711(data, "mu")
        if len(self._sound) >= 2 * _PIECE_BYTES:
            piece = bytes(self._sound)
            self._sound.clear()
            async with self._conversation.handling:
                await self._conversation.append_audio(piece)

    async def _deliver(self, event: Event) -> None:
        if isinstance(event, AudioDelta):
            await self._line.play(event)
        elif isinstance(event, TurnDone):
            self._line.finish(event.turn_id)
