"""A reasoner on the golden checkpoint behind real gRPC, and turns taken through it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from grpc import aio

from checkpoints.tokenizer_files import vocabulary_for, write_tokenizer_files
from chroma.v1 import reasoner_pb2_grpc
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_UNSPECIFIED
from chroma.v1.reasoner_pb2 import (
    ROLE_ASSISTANT,
    ROLE_USER,
    AudioClip,
    Commit,
    Heard,
    Message,
    Part,
    ThinkDone,
    ThinkOpen,
    ThinkRequest,
    Thought,
    TokenIds,
    UserAudio,
)
from services.common.rpc.server import Server
from services.common.wire import tensors
from services.reasoner import messages
from services.reasoner.__main__ import load
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from services.reasoner.runner import Outputs, ThinkRunner
from services.reasoner.scheduler import Batch
from services.reasoner.settings import ReasonerSettings
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.golden_checkpoint import golden_checkpoint

GOLDEN = golden_checkpoint()
AUDIO, IM_END = 600, 608
SPECIAL_IDS = {
    "<|AUDIO|>": AUDIO,
    "<|audio_bos|>": 601,
    "<|audio_eos|>": 602,
    "<|im_start|>": 607,
    "<|im_end|>": IM_END,
    "<|endoftext|>": 609,
}
MAX_AUDIO_S = 6.0
MAX_POSITIONS = 512


def golden_with_tokenizer(folder: Path) -> Path:
    """The golden checkpoint with a small tokenizer beside it. The golden data has none."""
    shutil.copytree(GOLDEN, folder, dirs_exist_ok=True)
    write_tokenizer_files(folder, vocabulary_for(SPECIAL_IDS, None), SPECIAL_IDS, 128)
    return folder


class Recorder(ThinkRunner):
    """Records every hidden state as the engine gave it."""

    def __init__(self, of: ThinkRunner) -> None:
        self.__dict__.update(of.__dict__)
        self.hidden: list[torch.Tensor] = []

    def step(self, batch: Batch) -> Outputs:
        outputs = super().step(batch)
        self.hidden += [output.hidden for _, output in outputs if isinstance(output, messages.Thought)]
        return outputs


@dataclass(frozen=True)
class Service:
    """A running reasoner: its stub, and its model for a test to look into."""

    stub: reasoner_pb2_grpc.ReasonerServiceAsyncStub
    runner: Recorder
    thinker: Thinker
    template: ChatTemplate

    async def think(self, requests: Iterable[ThinkRequest]) -> tuple[list[Thought], ThinkDone]:
        """Take a turn. Returns all thoughts and the account."""
        responses = [response async for response in self.stub.Think(iter(requests))]
        kinds = [response.WhichOneof("response") for response in responses]
        assert kinds == ["opened", *["thought"] * (len(kinds) - 2), "done"]
        thoughts = [response.thought for response in responses[1:-1]]
        assert [thought.index for thought in thoughts] == list(range(len(thoughts)))
        assert [thought.last for thought in thoughts] == [False] * (len(thoughts) - 1) + [True]
        done = responses[-1].done
        assert [thought.HasField("heard") for thought in thoughts] == [True] + [False] * (len(thoughts) - 1)
        heard = Heard(prompt_tokens=done.prompt_tokens, cached_tokens=done.cached_tokens, prefill_s=done.prefill_s)
        assert thoughts[0].heard == heard
        return thoughts, done

    async def until_idle(self, slots: int) -> None:
        """Wait until the service has `slots` free slots: a cancellation takes time to arrive."""
        while self.runner.kv.free_slots < slots:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(model: Path, *, slots: int = 4, max_thoughts: int = 1024) -> AsyncIterator[Service]:
    """A running service, wired as its process wires it."""
    settings = ReasonerSettings(
        model=str(model),
        slots=slots,
        max_thoughts=max_thoughts,
        max_positions=MAX_POSITIONS,
        kv_pages=slots * 32,
        max_audio_s=MAX_AUDIO_S,
    )
    loaded = load(settings)
    engine = loaded.engine
    assert isinstance(engine.runner, ThinkRunner)
    engine.runner = Recorder(engine.runner)
    checkpoint = Checkpoint.open(model)
    template = ChatTemplate(Tokenizer.from_checkpoint(checkpoint), audio_id=AUDIO, im_end_id=IM_END)
    server = Server(settings)
    reasoner_pb2_grpc.add_ReasonerServiceServicer_to_server(loaded.servicer, server.grpc)
    port = await server.start()
    engine.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = reasoner_pb2_grpc.ReasonerServiceStub(channel)
        yield Service(stub, engine.runner, load_thinker(checkpoint, dtype=torch.float32), template)
    await server.grpc.stop(0)
    await asyncio.to_thread(engine.stop)


def opening(*, audio: bool = True, max_thoughts: int | None = 8, **fields: object) -> ThinkRequest:
    """The first message."""
    encoding = AUDIO_ENCODING_PCM_F32LE if audio else AUDIO_ENCODING_UNSPECIFIED
    return ThinkRequest(open=ThinkOpen(audio_encoding=encoding, max_thoughts=max_thoughts, **fields))  # pyright: ignore[reportArgumentType]


def sound(samples: torch.Tensor, *, end_of_part: bool = False, ends_turn: bool = False) -> ThinkRequest:
    """A message of float32 samples."""
    audio = UserAudio(data=samples.numpy().tobytes(), end_of_part=end_of_part)
    return ThinkRequest(audio=audio, ends_turn=ends_turn)


def say(text: str, *, ends_turn: bool = False) -> ThinkRequest:
    """A text part."""
    return ThinkRequest(text=text, ends_turn=ends_turn)


def commit() -> ThinkRequest:
    """The end of the user's turn."""
    return ThinkRequest(commit=Commit())


def give(text: str) -> ThinkRequest:
    """A piece of the forced reply."""
    return ThinkRequest(given_text=text)


def user(*parts: str | torch.Tensor) -> Message:
    """A past turn of the user."""
    return Message(
        role=ROLE_USER,
        parts=[
            Part(text=part)
            if isinstance(part, str)
            else Part(audio=AudioClip(encoding=AUDIO_ENCODING_PCM_F32LE, data=part.numpy().tobytes()))
            for part in parts
        ],
    )


def assistant(ids: Sequence[int]) -> Message:
    """A past reply."""
    return Message(role=ROLE_ASSISTANT, parts=[Part(token_ids=TokenIds(ids=ids))])


def tone(seconds: float, hz: float = 220.0) -> torch.Tensor:
    """float32 [S] at 16 kHz."""
    return torch.sin(torch.arange(int(seconds * 16_000)) * (2 * torch.pi * hz / 16_000)) * 0.3


def token_ids(thoughts: Sequence[Thought]) -> list[int]:
    """The tokens of a reply."""
    return [thought.token_id for thought in thoughts]


def hidden(thoughts: Sequence[Thought]) -> torch.Tensor:
    """Their hidden states, [T, D]."""
    raw = [tensors.from_message(t.hidden, shape=tuple(t.hidden.shape), what="hidden") for t in thoughts]
    return torch.from_numpy(np.stack(raw))
