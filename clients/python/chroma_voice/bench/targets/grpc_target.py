"""A chroma-voice gateway over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chroma_voice.bench.targets.target import RATE_HZ, Event, ReplyEnded, ReplyStarted, Sound, SpeechHeard
from chroma_voice.client import Client
from chroma_voice.conversation import Conversation
from chroma_voice.errors import ChromaError, DeadlineExceeded, FailedPrecondition, Unauthenticated, Unavailable
from chroma_voice.events import AudioDelta, SpeechStarted, TurnDone, TurnStarted
from chroma_voice.patience import Patience
from chroma_voice.turn_detection import TurnDetection

_NOT_GRPC = ("Failed parsing HTTP/2", "http1.x", "SSL", "handshake")
"""Parts of gRPC's message when the other side speaks something else."""
PROBE_S = 10.0
"""Longest wait for the answer to a probe."""


@dataclass(frozen=True)
class GrpcTarget:
    """The gateway at `address`, with the options of `Client`. Without `store` it keeps nothing of the conversations."""

    address: str
    api_key: str = field(default="", repr=False)
    tls: bool = False
    tls_ca: bytes | None = field(default=None, repr=False)
    allow_plaintext_key: bool = False
    store: bool = True
    silence_s: float = 30.0
    """How long the server may send nothing while it owes a reply."""

    @property
    def name(self) -> str:
        """The address and the protocol."""
        return f"{self.address} (gRPC)"

    def client(self, timeout_s: float = 60.0) -> Client:
        """Return a client with a connection of its own, as every user has one."""
        return Client(
            self.address,
            timeout_s=timeout_s,
            attempts=1,
            api_key=self.api_key,
            tls=self.tls,
            tls_ca=self.tls_ca,
            allow_plaintext_key=self.allow_plaintext_key,
            patience=Patience(silence_s=self.silence_s),
            own_connection=True,
        )

    async def voices(self) -> list[str]:
        """Return the ids of the voices. Raises a `ChromaError` that says why the gateway cannot be called."""
        try:
            async with self.client(PROBE_S) as client:
                return [voice.voice_id async for voice in client.list_voices()]
        except ChromaError as error:
            raise _explained(error, self.address) from error

    async def probe(self) -> list[str]:
        """List the voices."""
        voices = await self.voices()
        if not voices:
            raise FailedPrecondition(f"{self.address} has no voices: enrol one with `chroma-voice voice add`")
        return voices

    @asynccontextmanager
    async def connect(self, voice: str, *, hands_free: bool) -> AsyncIterator[GrpcConnection]:
        """Open a Converse call."""
        async with self.client() as client:
            talk = client.conversation(
                voice=voice,
                input_rate_hz=RATE_HZ,
                turn_detection=TurnDetection() if hands_free else None,
                store=self.store,
            )
            await talk.__aenter__()
            try:
                yield GrpcConnection(talk)
            finally:
                # Without an error, `__aexit__` waits for a reply that still runs. A caller who has gone cancels it.
                gone = ChromaError("the caller hangs up", status="CANCELLED")
                await talk.__aexit__(type(gone), gone, None)


class GrpcConnection:
    """One Converse call."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk

    async def send_audio(self, data: bytes) -> None:
        """Send a piece of speech."""
        await self._talk.send_audio(data)

    async def commit(self) -> None:
        """Commit the turn."""
        await self._talk.commit()

    async def interrupt(self, played_s: float) -> None:
        """Cancel the turn."""
        await self._talk.cancel(played_s=played_s)

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events of the call."""
        async for event in self._talk.events():
            match event:
                case TurnStarted():
                    yield ReplyStarted(event.turn_id)
                case AudioDelta():
                    yield Sound(event.turn_id, event.data)
                case SpeechStarted():
                    yield SpeechHeard()
                case TurnDone():
                    error = event.error
                    failure = (error.status, error.message) if error is not None else ("OK", "")
                    yield ReplyEnded(event.turn_id, event.outcome, *failure)
        raise Unavailable("the server ended the conversation")


def _explained(error: ChromaError, address: str) -> ChromaError:
    """The error of a probe, with what the reader can do about it."""
    if isinstance(error, Unauthenticated):
        return Unauthenticated(f"{address} refuses without a valid key ({error.message}): give --api-key-file")
    if error.status == "UNIMPLEMENTED":
        return FailedPrecondition(
            f"{address} speaks gRPC, and is no chroma-voice gateway: expected chroma.v1.VoiceService"
        )
    if error.status in ("UNKNOWN", "INTERNAL") or any(part in error.message for part in _NOT_GRPC):
        return FailedPrecondition(f"{address} does not speak gRPC ({error.message}): for a Realtime API give --url")
    if isinstance(error, DeadlineExceeded):
        return DeadlineExceeded(f"{address} does not answer within {PROBE_S:g} s: it hangs, or speaks another protocol")
    if isinstance(error, Unavailable):
        return Unavailable(f"no gateway answers at {address}: {error.message}")
    return error
