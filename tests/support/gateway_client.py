"""A small client of the gateway's gRPC API."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chroma.v1 import consent_pb2_grpc, dialogue_pb2_grpc
from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from services.common.rpc.server import Server
from services.common.wire.pcm import Samples, encode_pcm

SPEECH_FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)


class Talk:
    """One open Converse call."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.session = pb.Session()

    async def send(self, **fields: Any) -> None:
        """Send one message."""
        await self.call.write(pb.ConverseRequest(**fields))

    async def read(self) -> pb.ConverseResponse:
        """The next message; the call's error if it failed; AssertionError if it ended."""
        answer = await self.call.read()
        assert answer is not aio.EOF, "the conversation ended"
        return answer

    async def until(self, kind: str) -> list[pb.ConverseResponse]:
        """Read messages up to and including the next one of `kind`."""
        answers = [await self.read()]
        while answers[-1].WhichOneof("response") != kind:
            answers.append(await self.read())
        return answers

    async def done(self) -> pb.TurnDone:
        """Read up to the end of the next turn that ends."""
        return (await self.until("turn_done"))[-1].turn_done

    async def ask(self, text: str) -> pb.TurnDone:
        """Take a whole text turn."""
        await self.send(text=text)
        await self.send(commit=pb.CommitTurn())
        return await self.done()

    async def error(self) -> aio.AioRpcError:
        """The status that ends the conversation. Reads the rest of the messages first."""
        with pytest.raises(aio.AioRpcError) as raised:
            await self._read_all()
        return raised.value

    async def _read_all(self) -> None:
        while await self.call.read() is not aio.EOF:
            pass

    async def finish(self) -> None:
        """Close the sending side and read to the end."""
        await self.call.done_writing()
        await self._read_all()


class Client:
    """The stubs of one gateway."""

    def __init__(self, channel: aio.Channel, server: Server, address: str, http_address: str = "") -> None:
        self.channel = channel
        self.http_address = http_address
        self.server = server
        self.address = address
        self.dialogue = dialogue_pb2_grpc.DialogueServiceStub(channel)
        self.voices = dialogue_pb2_grpc.VoiceServiceStub(channel)
        self.consents = consent_pb2_grpc.ConsentServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    async def until_serving(self) -> None:
        """Wait until the gateway says that it serves."""
        call = self._health.Watch(health_pb2.HealthCheckRequest(service="chroma.v1.DialogueService"))
        async for answer in call:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
        call.cancel()

    async def health(self) -> str:
        """The gateway's present health."""
        answer = await self._health.Check(health_pb2.HealthCheckRequest(service="chroma.v1.DialogueService"))
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    @asynccontextmanager
    async def converse(
        self, *, tenant: str = "", key: str = "", session_id: str = "", **opened: Any
    ) -> AsyncIterator[Talk]:
        """Open a conversation, in a new session with the voice `ada` unless one is named."""
        metadata = (("chroma-tenant", tenant),) if tenant else ()
        metadata += (("authorization", f"Bearer {key}"),) if key else ()
        call = self.dialogue.Converse(metadata=metadata)
        try:
            talk = Talk(call)
            fields: dict[str, Any] = {"input_format": SPEECH_FORMAT, "max_lead_s": 0.0}
            if session_id:
                fields["session_id"] = session_id
            else:
                fields["new_session"] = pb.SessionConfig(voice_id="ada")
            await talk.send(open=pb.ConverseOpen(**{**fields, **opened}))
            talk.session = (await talk.until("opened"))[-1].opened.session
            yield talk
        finally:
            call.cancel()


def speech(seconds: float, *, rate_hz: int = 16_000, seed: int = 1) -> Samples:
    """Samples that are loud enough to be speech."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(seconds * rate_hz)) * 0.1).astype(np.float32)


def s16(samples: Samples) -> bytes:
    """The samples as 16-bit PCM."""
    return encode_pcm(samples, AUDIO_ENCODING_PCM_S16LE)


def audio_file(samples: Samples, rate_hz: int = 24_000, *, format: str = "WAV", subtype: str | None = None) -> bytes:  # noqa: A002
    """An audio file that holds the samples [S] or [S, channels]."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=format, subtype=subtype)
    return file.getvalue()


def new_voice(voice_id: str = "ada", **changes: Any) -> pb.CreateVoiceRequest:
    """A valid request to create a voice."""
    fields: dict[str, Any] = {
        "voice_id": voice_id,
        "audio_file": audio_file(speech(2, rate_hz=24_000)),
        "transcript": "hello",
        "consent": "Ada agreed in writing",
    }
    return pb.CreateVoiceRequest(**{**fields, **changes})
