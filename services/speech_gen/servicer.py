"""SpeechGenService: gRPC calls to the engine's messages and back, with the checks of what callers send."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from chroma.v1 import generation_pb2, speech_gen_pb2, speech_gen_pb2_grpc
from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.generation_pb2 import END_REASON_EOS, END_REASON_LIMIT, END_REASON_POSITIONS
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import SpeakDone, SpeakOpen, SpeakOpened, SpeakRequest, SpeakResponse, VoiceEmbedding
from services.common.errors import InvalidArgument
from services.common.rpc.checkpoint import check_checkpoint
from services.common.rpc.requests import fed_by, kind_of, read_open, unexpected
from services.common.sampling import SamplingParams
from services.common.telemetry.tracing import mark, note
from services.common.wire import code_frames, tensors
from services.common.wire.audio import FRAME_RATE_HZ, FRAME_S
from services.common.wire.sampling import from_message as sampling_from_message
from services.runtime.checkpoint.dtypes import from_raw, to_raw
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.engine import Engine
from services.runtime.engine.groups import in_groups
from services.speech_gen.messages import EndReason, Frame, Output, SpeechEnd, SpeechRequest
from services.speech_gen.model.generator import ThoughtInput
from services.speech_gen.model.voice import VoiceCache, VoicePrompt, enroll
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.scheduler import Batch, SpeechStream

SpeechEngine = Engine[SpeechRequest, ThoughtInput, Output, Batch]

_TEXT_END_TIMEOUT_S = 5.0
"""How long a call stays open for the caller's last thoughts after its speech has ended. A caller that writes to an
ended call loses the responses that it has not read yet (grpc/grpc#36066)."""

HOLD_S = 10 * FRAME_S
"""A frame that is far ahead of its playback is held at most for this long, so that others can share its message."""

GROUP_FRAMES = 64
"""Most frames of a message."""

_REASONS = {
    EndReason.EOS: END_REASON_EOS,
    EndReason.MAX_FRAMES: END_REASON_LIMIT,
    EndReason.POSITIONS: END_REASON_POSITIONS,
}


class SpeechGenServicer(speech_gen_pb2_grpc.SpeechGenServiceServicer):
    """The calls that `speech_gen.proto` specifies. A cancelled call's slot is free within one step.

    Args:
        engine: runs `runner`.
        tokenizer: None for a checkpoint without one, which takes transcripts as token ids only.
        defaults: sampling parameters for what a request leaves unset.
        checkpoint_fingerprint: identifies the weights.
        voices: enrolled voice prompts; used on the event loop only.
        max_lead_s: the lead of streams that ask for none, in seconds; 0: not paced.
        max_reply_s: bounds every stream's speech, in seconds, also below what its request asks for.
    """

    def __init__(
        self,
        engine: SpeechEngine,
        runner: SpeechRunner,
        tokenizer: Tokenizer | None,
        *,
        token_ids: Any,
        defaults: SamplingParams,
        checkpoint_fingerprint: str,
        voices: VoiceCache,
        max_lead_s: float,
        max_reply_s: float,
    ) -> None:
        self._engine = engine
        self._runner = runner
        self._backbone = runner.generator.backbone
        self._max_frames = max(1, int(max_reply_s * FRAME_RATE_HZ))
        self._tokenizer = tokenizer
        self._token_ids = token_ids
        self._defaults = defaults
        self._checkpoint_fingerprint = checkpoint_fingerprint
        self._voices = voices
        self._max_lead_s = max_lead_s

    async def Speak(  # noqa: N802
        self, request_iterator: AsyncIterator[SpeakRequest], context: Any
    ) -> AsyncIterator[SpeakResponse]:
        """Speak the thoughts of a stream: thoughts in, code frames out."""
        opened = (await read_open(request_iterator)).open
        request = await self._read_open(opened)
        text_ended = asyncio.Event()
        async with (
            self._engine.open(request) as stream,
            fed_by(stream, self._feed_thoughts(stream, request_iterator, text_ended)),
        ):
            yield SpeakResponse(
                opened=SpeakOpened(
                    checkpoint_fingerprint=self._checkpoint_fingerprint,
                    voice_fingerprint=request.voice.fingerprint,
                    seed=request.sampling.seed,
                    takes_groups=True,
                )
            )
            voiced = 0
            hold_s = HOLD_S if request.max_lead_s is not None else 0.0
            async for outputs in in_groups(stream, output_s=FRAME_S, hold_s=hold_s, most=GROUP_FRAMES):
                if frames := [output for output in outputs if isinstance(output, Frame) and output.voiced]:
                    mark("first_frame")
                    yield SpeakResponse(frames=_frames(frames))
                    voiced += len(frames)
                if isinstance(end := outputs[-1], SpeechEnd):
                    note(frames=voiced, prompt_rows=end.prompt_positions, cached_rows=end.shared_positions)
                    yield SpeakResponse(done=_done(end, voiced))
            with suppress(TimeoutError):
                await asyncio.wait_for(text_ended.wait(), _TEXT_END_TIMEOUT_S)

    async def EnrollVoice(  # noqa: N802
        self, request: speech_gen_pb2.EnrollVoiceRequest, context: Any
    ) -> speech_gen_pb2.EnrollVoiceResponse:
        """Make a voice prompt from a recording's codes and transcript, and cache it."""
        kind = request.WhichOneof("text")
        if kind is None:
            raise InvalidArgument("expected `transcript` or `transcript_ids`, got neither")
        transcript = self._tokenize(request.transcript) if kind == "transcript" else list(request.transcript_ids.ids)
        if not transcript:
            raise InvalidArgument("expected a transcript with at least one token, got an empty one")
        voice = await self._enroll(request.frames, transcript)
        return speech_gen_pb2.EnrollVoiceResponse(
            prompt=speech_gen_pb2.VoicePrompt(frames=request.frames, transcript=TokenIds(ids=transcript)),
            fingerprint=voice.fingerprint,
            embeddings=tensors.to_message(to_raw(voice.rows)),
            checkpoint_fingerprint=self._checkpoint_fingerprint,
        )

    async def ForgetVoice(  # noqa: N802
        self, request: speech_gen_pb2.ForgetVoiceRequest, context: Any
    ) -> speech_gen_pb2.ForgetVoiceResponse:
        """Remove a voice from the caches of this replica."""
        fingerprint = request.voice_fingerprint
        if not fingerprint:
            raise InvalidArgument("expected a `voice_fingerprint`, got an empty one")
        kept = self._voices.forget(fingerprint)
        await self._engine.call(lambda: self._runner.forget(fingerprint, kept))
        return speech_gen_pb2.ForgetVoiceResponse()

    async def _read_open(self, opened: SpeakOpen) -> SpeechRequest:
        check_checkpoint(opened.checkpoint_fingerprint, self._checkpoint_fingerprint)
        sampling = self._read_sampling(opened.sampling)
        max_frames = min(opened.max_frames, self._max_frames) if opened.HasField("max_frames") else self._max_frames
        lead_s = opened.max_lead_s if opened.HasField("max_lead_s") else self._max_lead_s
        if not lead_s >= 0:
            raise InvalidArgument(f"max_lead_s: expected at least 0, got {lead_s}")
        kind = opened.WhichOneof("voice")
        if kind is None:
            raise InvalidArgument("expected `voice_fingerprint` or `voice_prompt`, got neither")
        if kind == "voice_fingerprint":
            voice = self._voices.get(opened.voice_fingerprint)
        else:
            prompt = opened.voice_prompt
            voice = await self._enroll(prompt.frames, list(prompt.transcript.ids), opened.voice_embedding)
        keep_voice = not self._voices.is_forgotten(voice.fingerprint)
        return SpeechRequest(voice, sampling, max_frames, lead_s or None, keep_voice)

    def _read_sampling(self, message: generation_pb2.Sampling) -> SamplingParams:
        sampling = sampling_from_message(message, self._defaults)
        return sampling if message.HasField("seed") else replace(sampling, seed=secrets.randbits(64))

    def _tokenize(self, transcript: str) -> list[int]:
        if self._tokenizer is None:
            raise InvalidArgument("this checkpoint has no tokenizer: send `transcript_ids`")
        return self._tokenizer.encode(transcript)

    async def _enroll(
        self, frames: CodeFrames, transcript: Sequence[int], known: VoiceEmbedding | None = None
    ) -> VoicePrompt:
        codes = code_frames.from_message(frames, next_frame=0)
        embedding = None
        if known is not None and known.checkpoint_fingerprint == self._checkpoint_fingerprint:
            shape = (len(codes) + len(transcript) + 3, self._backbone.width)
            embedding = tensors.from_message(known.rows, shape=shape, what="voice embedding")
        voice = await asyncio.to_thread(
            enroll,
            self._backbone,
            self._token_ids,
            codes.astype(np.int64),
            transcript,
            self._checkpoint_fingerprint,
            embedding=embedding,
        )
        self._voices.put(voice)
        return voice

    async def _feed_thoughts(
        self, stream: SpeechStream, requests: AsyncIterator[SpeakRequest], text_ended: asyncio.Event
    ) -> None:
        width, dtype = self._backbone.width, self._backbone.stack.dtype
        next_index, ended = 0, False
        async for request in requests:
            match kind_of(request):
                case "thought":
                    thoughts = [request.thought]
                case "thoughts":
                    thoughts = request.thoughts.thoughts
                case kind:
                    raise unexpected(kind, "`thought` or `thoughts` after `open`")
            for thought in thoughts:
                if ended:
                    raise InvalidArgument(f"expected nothing after the last thought, got thought {thought.index}")
                if thought.index != next_index:
                    raise InvalidArgument(f"thoughts out of order: expected index {next_index}, got {thought.index}")
                raw = tensors.from_message(thought.hidden, shape=(width,), what=f"hidden state of thought {next_index}")
                await stream.feed(ThoughtInput(thought.token_id, from_raw(raw, dtype), thought.last))
                next_index, ended = next_index + 1, thought.last
                if ended:
                    text_ended.set()
        stream.finish()
        text_ended.set()


def _frames(frames: Sequence[Frame]) -> CodeFrames:
    return CodeFrames(first_frame=frames[0].index, codes=[code for frame in frames for code in frame.codes])


def _done(end: SpeechEnd, voiced: int) -> SpeakDone:
    return SpeakDone(
        reason=_REASONS[end.reason],
        frames=voiced,
        thoughts=end.thoughts,
        prompt_rows=end.prompt_positions + end.shared_positions,
        cached_rows=end.shared_positions,
        restarts=end.restarts,
    )
