"""Fake model services over real gRPC: each follows a script, and counts the calls that are open."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from chroma.v1 import codec_pb2 as codec
from chroma.v1 import codec_pb2_grpc, generation_pb2, reasoner_pb2_grpc, speech_gen_pb2_grpc
from chroma.v1 import reasoner_pb2 as reasoner
from chroma.v1 import speech_gen_pb2 as speech_gen
from chroma.v1.audio_pb2 import CodeFrames, Pcm
from chroma.v1.tensor_pb2 import DATA_TYPE_FLOAT32, Tensor
from chroma.v1.tools_pb2 import ToolCall
from services.common.errors import NotFound, ResourceExhausted
from services.common.rpc.checkpoint import check_checkpoint, serve_checkpoint
from services.common.rpc.requests import read_open
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from services.common.wire.pcm import encode_pcm
from services.common.wire.voice_fingerprint import voice_fingerprint
from tests.support.fake_script import FIRST_ID, IM_END, REPLY, Script


class _Call:
    """Counts a call while it is open."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.number = 0

    def __enter__(self) -> _Call:
        self.script.open_calls += 1
        self.script.calls += 1
        self.number = self.script.calls
        return self

    async def step(self, answer: int) -> None:
        """Wait or fail if the script says so, before this answer."""
        await self.script.step(answer, self.number)

    def __exit__(self, *_: object) -> None:
        self.script.open_calls -= 1
        self.script.news.set()


def _admit(script: Script, opened: Any) -> None:
    script.opened.append(opened)
    if script.failures:
        raise script.failures.pop(0)
    if script.refusal is not None:
        raise script.refusal
    if script.slots and script.open_calls > script.slots:
        raise ResourceExhausted("all slots are taken")


class FakeReasoner(reasoner_pb2_grpc.ReasonerServiceServicer):
    """A reasoner that answers REPLY, or the forced text piece by piece, then im_end."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def Think(  # noqa: N802
        self, request_iterator: AsyncIterator[reasoner.ThinkRequest], context: Any
    ) -> AsyncIterator[reasoner.ThinkResponse]:
        with _Call(self.script) as call:
            opened = (await read_open(request_iterator)).open
            _admit(self.script, opened)
            self.script.heard = []
            if opened.keep:
                self.script.sessions.add(opened.session_id)
            admitted = reasoner.ThinkOpened(checkpoint_fingerprint=self.script.checkpoint, takes_ends_turn=True)
            yield reasoner.ThinkResponse(opened=admitted)
            async for request in request_iterator:
                self.script.news.set()
                if request.HasField("commit"):
                    break
                self.script.heard.append(request.text or request.audio.data)
                if request.ends_turn:
                    break
            heard, index = reasoner.Heard(prompt_tokens=30, cached_tokens=10, prefill_s=0.01), 0
            given = opened.reply_source == reasoner.REPLY_SOURCE_GIVEN
            reply, tool_calls = self.script.reply, self.script.tool_calls
            if self.script.speaks_results and opened.history and opened.history[-1].role == reasoner.ROLE_TOOL:
                reply, tool_calls = REPLY, ()
            pieces = (request.given_text async for request in request_iterator) if given else _each(reply)
            async for text in pieces:
                if given:
                    self.script.spoken.append(text)
                await call.step(index)
                is_cut = index + 1 == opened.max_thoughts
                thought = _thought(index, FIRST_ID + index, text, last=is_cut, heard=None if index else heard)
                yield reasoner.ThinkResponse(thought=thought)
                if is_cut:
                    done = reasoner.ThinkDone(reason=generation_pb2.END_REASON_LIMIT)
                    yield reasoner.ThinkResponse(done=done)
                    return
                index += 1
            if not given and (tool_calls or self.script.unreadable_call):
                thought = _thought(index, IM_END, "", last=False, heard=None if index else heard)
                thought.call = True
                yield reasoner.ThinkResponse(thought=thought)
                index += 1
            thought = _thought(index, IM_END, "", last=True, heard=None if index else heard)
            thought.call = index > 0 and not given and bool(tool_calls or self.script.unreadable_call)
            yield reasoner.ThinkResponse(thought=thought)
            reason = generation_pb2.END_REASON_GIVEN if given else generation_pb2.END_REASON_EOS
            done = reasoner.ThinkDone(reason=reason)
            if not given:
                done.tool_calls.extend(ToolCall(name=name, arguments=text) for name, text in tool_calls)
                done.unreadable_call = self.script.unreadable_call
            yield reasoner.ThinkResponse(done=done)

    async def CountPrompt(self, request: reasoner.CountPromptRequest, context: Any) -> Any:  # noqa: N802
        words = [request.system_prompt, *(f"{it.name} {it.description}" for it in request.tools.tools)]
        return reasoner.CountPromptResponse(tokens=sum(len(text.split()) for text in words))

    async def Forget(self, request: reasoner.ForgetRequest, context: Any) -> Any:  # noqa: N802
        if self.script.failures:
            raise self.script.failures.pop(0)
        self.script.sessions.discard(request.session_id)
        self.script.forgotten.append(request)
        return reasoner.ForgetResponse()


class FakeSpeechGen(speech_gen_pb2_grpc.SpeechGenServiceServicer):
    """A speech generator that turns each thought into two frames. It knows the voices whose prompts it was given."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def Speak(  # noqa: N802
        self, request_iterator: AsyncIterator[speech_gen.SpeakRequest], context: Any
    ) -> AsyncIterator[speech_gen.SpeakResponse]:
        with _Call(self.script) as call:
            opened = (await read_open(request_iterator)).open
            _admit(self.script, opened)
            check_checkpoint(opened.checkpoint_fingerprint, self.script.checkpoint)
            voice = opened.voice_fingerprint or self._hold(opened.voice_prompt)
            if voice not in self.script.voices:
                raise NotFound(f"voice prompt {voice} is not cached here")
            yield speech_gen.SpeakResponse(
                opened=speech_gen.SpeakOpened(
                    checkpoint_fingerprint=self.script.checkpoint, voice_fingerprint=voice, seed=1
                )
            )
            frame = 0
            async for request in request_iterator:
                assert len(request.thought.hidden.data) == 8, "thoughts come with their hidden state"
                for _ in range(2 + (self.script.frames_after if request.thought.last else 0)):
                    await call.step(frame)
                    if frame == opened.max_frames:
                        break
                    yield speech_gen.SpeakResponse(
                        frames=CodeFrames(first_frame=frame, codes=[frame % 2048] * CODEBOOKS)
                    )
                    frame += 1
                if frame == self.script.ends_at:
                    break
            is_cut = frame == opened.max_frames
            reason = generation_pb2.END_REASON_LIMIT if is_cut else self.script.end_reason
            yield speech_gen.SpeakResponse(done=speech_gen.SpeakDone(reason=reason, frames=frame))
            async for _ in request_iterator:  # as the service does: a caller may still be writing thoughts
                pass

    async def EnrollVoice(self, request: speech_gen.EnrollVoiceRequest, context: Any) -> Any:  # noqa: N802
        _admit(self.script, request)
        ids = request.transcript_ids.ids or [ord(letter) for letter in request.transcript]
        prompt = speech_gen.VoicePrompt(frames=request.frames, transcript=reasoner.TokenIds(ids=ids))
        return speech_gen.EnrollVoiceResponse(
            prompt=prompt,
            fingerprint=self._hold(prompt),
            embeddings=embedding(prompt, self.script.checkpoint),
            checkpoint_fingerprint=self.script.checkpoint,
        )

    async def ForgetVoice(self, request: speech_gen.ForgetVoiceRequest, context: Any) -> Any:  # noqa: N802
        if self.script.failures:
            raise self.script.failures.pop(0)
        self.script.voices.discard(request.voice_fingerprint)
        self.script.forgotten.append(request)
        return speech_gen.ForgetVoiceResponse()

    def _hold(self, prompt: speech_gen.VoicePrompt) -> str:
        name = voice_fingerprint(prompt.frames.codes, prompt.transcript.ids, self.script.checkpoint)
        self.script.voices.add(name)
        return name


class FakeCodec(codec_pb2_grpc.CodecServiceServicer):
    """A codec that decodes frame n as 1920 samples of n / 1000, or as a tone."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def Decode(  # noqa: N802
        self, request_iterator: AsyncIterator[codec.DecodeRequest], context: Any
    ) -> AsyncIterator[codec.DecodeResponse]:
        with _Call(self.script) as call:
            opened = (await read_open(request_iterator)).open
            _admit(self.script, opened)
            check_checkpoint(opened.checkpoint_fingerprint, self.script.checkpoint)
            async for request in request_iterator:
                frame = request.frames.first_frame
                await call.step(frame)
                samples = self._samples(frame)
                pcm = Pcm(first_sample=frame * FRAME_SAMPLES, data=encode_pcm(samples, opened.encoding))
                yield codec.DecodeResponse(pcm=pcm)

    def _samples(self, frame: int) -> np.ndarray:
        if not self.script.tone_hz:
            return np.full(FRAME_SAMPLES, frame / 1000, dtype=np.float32)
        times_s = (frame * FRAME_SAMPLES + np.arange(FRAME_SAMPLES)) / SAMPLE_RATE_HZ
        return (0.3 * np.sin(2 * np.pi * self.script.tone_hz * times_s)).astype(np.float32)

    async def Encode(  # noqa: N802
        self, request_iterator: AsyncIterator[codec.EncodeRequest], context: Any
    ) -> AsyncIterator[codec.EncodeResponse]:
        with _Call(self.script):
            opened = (await read_open(request_iterator)).open
            _admit(self.script, opened)
            samples = sum([len(request.pcm.data) // 4 async for request in request_iterator])
            frames = -(-samples // FRAME_SAMPLES)
            yield codec.EncodeResponse(frames=CodeFrames(codes=[5] * (CODEBOOKS * frames)))


_MAKERS: dict[str, tuple[Any, Any, str]] = {
    "reasoner": (FakeReasoner, reasoner_pb2_grpc.add_ReasonerServiceServicer_to_server, "chroma.v1.ReasonerService"),
    "speech_gen": (
        FakeSpeechGen,
        speech_gen_pb2_grpc.add_SpeechGenServiceServicer_to_server,
        "chroma.v1.SpeechGenService",
    ),
    "codec": (FakeCodec, codec_pb2_grpc.add_CodecServiceServicer_to_server, "chroma.v1.CodecService"),
}


class FakeService:
    """The server of a fake service, which can be killed and started again at the same port."""

    def __init__(self, name: str, *, checkpoint: str = "fake", **settings: Any) -> None:
        self.name = name
        self.settings = {"max_message_bytes": 32 * 1024 * 1024, **settings}
        self.script = Script(checkpoint)
        self.port = 0
        self._server: Server | None = None

    @property
    def address(self) -> str:
        """The address on which it listens."""
        return f"127.0.0.1:{self.port}"

    async def start(self, servicer: Callable[[Script], Any] | None = None) -> None:
        """Listen and serve, as a new process that holds no voice. `servicer` makes another servicer than the scripted
        one."""
        self.script.voices.clear()
        self.script.sessions.clear()
        make, add, service = _MAKERS[self.name]
        self._server = Server(ServiceSettings(listen=self.address, **self.settings))
        add((servicer or make)(self.script), self._server.grpc)
        serve_checkpoint(
            self._server.grpc,
            self.script.checkpoint,
            self.script.slots,
            renders_tools=self.script.renders_tools,
            card=self.script.card,
            positions=self.script.positions,
        )
        self._server.register(service)
        self.port = await self._server.start()
        await self._server.set_serving()

    async def kill(self) -> None:
        """End at once, with all calls."""
        await self.drain(0)

    async def restart(self) -> None:
        """End, and start again with what the script says now of the checkpoint."""
        await self.kill()
        await self.start()

    async def drain(self, limit_s: float) -> None:
        """Take no more calls, and end when the open ones have ended or after `limit_s`."""
        assert self._server is not None, "started before"
        await self._server.drain(limit_s)


def embedding(prompt: speech_gen.VoicePrompt, checkpoint: str) -> Tensor:
    """The embedding that the fake speech generator computes for a prompt under a checkpoint: one row of two values."""
    row = np.array([len(prompt.frames.codes), sum(checkpoint.encode())], dtype="<f4")
    return Tensor(dtype=DATA_TYPE_FLOAT32, shape=[1, 2], data=row.tobytes())


async def _each(pieces: tuple[str, ...]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


def _thought(
    index: int, token_id: int, text: str, *, last: bool, heard: reasoner.Heard | None = None
) -> reasoner.Thought:
    hidden = Tensor(dtype=DATA_TYPE_FLOAT32, shape=[2], data=bytes(8))
    return reasoner.Thought(index=index, token_id=token_id, text=text, hidden=hidden, last=last, heard=heard)


async def main(name: str) -> None:
    """Run a fake service in a process of its own. Its first line of output is its address.

    It waits after its sixth answer, the reasoner after its third.
    """
    service = FakeService(name)
    service.script.hold_at = 6 if name != "reasoner" else 3
    await service.start()
    print(service.address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
