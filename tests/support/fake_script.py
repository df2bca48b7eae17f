"""What a fake model service does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from chroma.v1 import generation_pb2
from chroma.v1.checkpoint_pb2 import CheckpointCard
from services.common.errors import ChromaError

REPLY = ("Hello", ", ", "dear ", "world", ".")
FIRST_ID = 100
IM_END = 7


@dataclass
class Script:
    """What a fake service does, and which calls it got."""

    checkpoint: str = "fake"
    """Fingerprint of the checkpoint that the service claims to run."""
    slots: int = 0
    """How many turns the service serves at once, as it says when it starts. 0: any number, and it does not say."""
    voices: set[str] = field(default_factory=set)
    """Fingerprints of the voice prompts that the speech generator holds."""
    sessions: set[str] = field(default_factory=set)
    """Ids of the sessions of which the reasoner holds state."""
    forgotten: list[Any] = field(default_factory=list)
    """The requests to forget something that were acknowledged."""
    open_calls: int = 0
    failures: list[ChromaError] = field(default_factory=list)
    """Errors that the next calls raise, one each, right after `open`."""
    refusal: ChromaError | None = None
    """Error that every call raises right after `open`. None: calls are admitted."""
    hold_at: int | None = None
    """The number of the answer after which the service waits until `go` is set. None: it never waits."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service waits."""
    calls: int = 0
    """How many calls have come."""
    held_call: int | None = None
    """The number of the only call that waits, from 1. None: every call waits."""
    breaks: list[int] = field(default_factory=list)
    """The numbers of answers in whose place the next calls fail with INTERNAL, one each. Fakes may share one list."""
    tone_hz: float = 0.0
    """The tone that the codec decodes every frame to. 0: frame n is 1920 samples of n / 1000."""
    reply: tuple[str, ...] = REPLY
    """The thoughts of a generated reply."""
    end_reason: generation_pb2.EndReason.ValueType = generation_pb2.END_REASON_EOS
    """Why speech ends."""
    tool_calls: tuple[tuple[str, str], ...] = ()
    """The tool calls that a generated reply ends with: names and arguments."""
    speaks_results: bool = False
    """Whether the reply to a tool's result is REPLY, without tool calls."""
    unreadable_call: str = ""
    """Why the reply's tool calls cannot be read."""
    renders_tools: bool = False
    """Whether the service says that its chat template renders tools."""
    card: CheckpointCard | None = None
    """What the service says that its checkpoint says of itself."""
    positions: int = 0
    """How many positions a turn may have, as the reasoner says. It counts a word as a token. 0: it does not say."""
    ends_at: int | None = None
    """The frame after which speech ends although thoughts may still come. None: it ends with the last thought."""
    frames_after: int = 0
    """The frames of speech that follow those of the last thought."""
    opened: list[Any] = field(default_factory=list)
    """The `open` message of each call."""
    heard: list[str | bytes] = field(default_factory=list)
    """The input of the reasoner's last call so far."""
    spoken: list[str] = field(default_factory=list)
    """The pieces of text that the reasoner was given to say."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hold_next_call(self, at: int) -> None:
        """Let the next call wait after this answer until `go` is set or it is cancelled. No later call waits.

        For a client that interrupts when it likes: its first reply cannot end, and its next one ends for certain.
        """
        self.hold_at, self.held_call = at, self.calls + 1

    async def step(self, answer: int, call: int) -> None:
        """Wait or fail if the script says so, before this answer of this call."""
        if self.breaks and answer == self.breaks[0]:
            del self.breaks[0]
            raise ChromaError("the step failed: RuntimeError on 10.0.0.5")
        if answer == self.hold_at and self.held_call in (None, call):
            self.held.set()
            await self.go.wait()
