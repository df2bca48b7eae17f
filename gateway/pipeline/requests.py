"""The request streams of a turn's three calls, and the plan that they follow."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from chroma.v1.audio_pb2 import AudioEncoding, CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen, DecodeRequest
from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.generation_pb2 import Sampling
from chroma.v1.reasoner_pb2 import (
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    REPLY_SOURCE_GENERATED,
    REPLY_SOURCE_GIVEN,
    ThinkOpen,
    ThinkRequest,
    Thought,
    Thoughts,
)
from chroma.v1.speech_gen_pb2 import SpeakOpen, SpeakRequest
from chroma.v1.tools_pb2 import Tools
from gateway.pipeline.turn_input import ForcedReply, TurnInput, never
from gateway.store.records import TurnRecord
from gateway.store.voices import SpokenVoice
from services.common.wire.audio import CODEBOOKS, FRAMES_PER_THOUGHT


@dataclass(frozen=True)
class TurnPlan:
    """The context and the settings of one turn. Times in seconds."""

    session_id: str
    """Empty: a turn outside a session, of which the reasoner keeps nothing."""
    config: SessionConfig
    """The session's settings when the plan was made."""
    system_prompt: str | None
    """None: the default of the checkpoint's chat template."""
    history: tuple[TurnRecord, ...]
    voice: SpokenVoice | None
    """None: the reply is not spoken."""
    sampling: Sampling | None
    """None: the checkpoint's defaults."""
    max_frames: int
    max_lead_s: float | None
    """None: the speech generator's default."""
    output_encoding: AudioEncoding.ValueType
    max_tokens: int | None = None
    """Most tokens of the reply: its thoughts and its code frames together. None: there is no such limit."""
    tenant: str = ""
    """Whose cached state the reasoner may use and add to. Empty: only that of the session."""
    tools: Tools | None = None
    """What the model may call. None: nothing."""
    low_priority: bool = False
    """Whether the reasoner computes the turn only when no other turn has work. The turn then may pause for long, and
    takes no seat of its caller."""
    stop: tuple[str, ...] = ()
    """The reply ends before the first of these texts that its text would have."""

    @property
    def max_thoughts(self) -> int:
        """Most thoughts of the reply. A spoken one has a frame or more left for each frame that they give."""
        thoughts = math.ceil(self.max_frames / FRAMES_PER_THOUGHT)
        if self.max_tokens is None:
            return thoughts
        share = 1 if self.voice is None else 1 + FRAMES_PER_THOUGHT
        return min(thoughts, max(1, self.max_tokens // share))


def cache_scope(tenant: str) -> str:
    """The name by which the reasoner keeps the cached state of a tenant apart: it does not tell the tenant's name."""
    return hashlib.sha256(b"cache scope|" + tenant.encode()).hexdigest()[:32] if tenant else ""


_GROUP_THOUGHTS = 16
"""Most thoughts of a message to the speech generator: 64 kB of hidden states of the published checkpoint."""


_HOLD_S = 0.24
"""How long the reasoner may hold a thought that is far ahead of its speech, of a reply at the pace of listening."""


SPEECH_AFTER_S = 0.002
"""The calls for speech open so long after the commit. Else, on a machine with few cores, a reasoner may get the commit
only when the gateway has opened them."""


def _nobody() -> None:
    pass


@dataclass
class Ledger:
    """What one call was given and what it has answered, in code frames: whether its replica owes a response.

    A stage that waits for the stage before it owes nothing. So the first stage that hangs is the only one that does.
    """

    given: int = 0
    answered: int = 0
    ended: bool = False
    """Whether no input will follow: everything that is left is due."""
    settled: bool = False
    """Whether nothing more is expected."""
    notify: Callable[[], None] = _nobody
    """Is called when more is owed."""

    def give(self, frames: int) -> None:
        """Note input for this many frames."""
        self.given += frames
        self.notify()

    def end(self) -> None:
        """Note the end of the input."""
        self.ended = True
        self.notify()

    def owes(self) -> bool:
        """Whether a response is due."""
        return not self.settled and (self.ended or self.answered < self.given)


async def think_requests(
    plan: TurnPlan,
    history: Sequence[TurnRecord],
    source: TurnInput,
    asked: asyncio.Event,
    takes_ends_turn: Callable[[], bool] = never,
) -> AsyncGenerator[ThinkRequest, None]:
    """Yield the past conversation, then the input as it comes. `asked` is set when the commit has been sent.

    `takes_ends_turn`: whether the replica takes the end of the turn in the last message of its input.
    """
    yield ThinkRequest(
        open=ThinkOpen(
            session_id=plan.session_id,
            system_prompt=plan.system_prompt,
            history=[message for turn in history for message in turn.messages()],
            audio_encoding=source.encoding,
            max_thoughts=plan.max_thoughts,
            reply_source=REPLY_SOURCE_GIVEN if isinstance(source, ForcedReply) else REPLY_SOURCE_GENERATED,
            cache_scope=cache_scope(plan.tenant),
            keep=bool(plan.session_id),
            tools=plan.tools,
            takes_groups=True,
            priority=PRIORITY_LOW if plan.low_priority else PRIORITY_NORMAL,
            max_hold_s=_HOLD_S if plan.voice is not None and plan.max_lead_s != 0 else 0,
        )
    )
    async for request in source.requests(takes_ends_turn):
        yield request
        if request.ends_turn or request.HasField("commit"):
            asked.set()


async def speak_requests(
    opened: SpeakOpen,
    admitted: asyncio.Future[bool],
    spoken: asyncio.Event,
    thoughts: asyncio.Queue[Thought | None],
    taken: list[Thought | None],
    ledger: Ledger,
) -> AsyncGenerator[SpeakRequest, None]:
    """Yield `opened`, then the thoughts.

    The first thought is sent once the call is `admitted`, with whether its replica takes several thoughts in a message.
    Those that wait then share one. `taken` holds the thoughts that an earlier call took from the queue; they are sent
    again first. Thoughts that this call takes are added to it until the first frame has come: no other call will need
    later ones. No thought is sent once the speech has ended.

    The ledger gets a thought's frames with the thought after it: by then the replica has all that the frames need.
    """
    ledger.give(1)  # the replica owes its admission
    yield SpeakRequest(open=opened)
    most = _GROUP_THOUGHTS if await admitted else 1
    sent = 0
    is_over = False
    while not is_over:
        group: list[Thought] = []
        while len(group) < most and (not group or sent + len(group) < len(taken) or not thoughts.empty()):
            if sent + len(group) < len(taken):
                thought = taken[sent + len(group)]
            else:
                thought = await thoughts.get()
                if ledger.answered <= 1:
                    taken.append(thought)
            if thought is None or spoken.is_set():
                is_over = True
                break
            group.append(thought)
        if group and not spoken.is_set():
            ledger.give(FRAMES_PER_THOUGHT * (len(group) if sent else len(group) - 1))
            sent += len(group)
            yield SpeakRequest(thought=group[0]) if len(group) == 1 else SpeakRequest(thoughts=Thoughts(thoughts=group))
            if group[-1].last:
                ledger.end()
    ledger.end()


async def decode_requests(
    opened: DecodeOpen,
    frames: asyncio.Queue[CodeFrames | None],
    taken: list[CodeFrames | None],
    ledger: Ledger,
) -> AsyncGenerator[DecodeRequest, None]:
    """Yield `opened`, then the frames.

    `taken` holds the frames that an earlier call took from the queue; they are sent again first. Frames that this call
    takes are added to it.
    """
    yield DecodeRequest(open=opened)
    sent = 0
    while True:
        if sent == len(taken):
            taken.append(await frames.get())
        message = taken[sent]
        if message is None:
            ledger.end()
            return
        ledger.give(len(message.codes) // CODEBOOKS)
        yield DecodeRequest(frames=message)
        sent += 1
