"""The whole system as separate processes, which the commands of a user start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from chroma_voice import AudioDelta, Client, Conversation, Sampling, TurnDone, TurnStarted, Unavailable
from chroma_voice.events import Event
from chroma_voice.local.checkpoint import TINY
from chroma_voice.local.state import Endpoints, StateFolder
from tests.support.paths import SAMPLES

QUESTION = SAMPLES / "question_make_taco.wav"
VOICE_FILE = SAMPLES / "voice_librivox_5s.flac"
VOICE_TRANSCRIPT = "Unless to be rather cold hearted and rather selfish is to be ill disposed."
VOICE = "reader"
LONG_SPEECH = Sampling(temperature=5.0, seed=1)
"""A temperature at which the speech of random weights never ends by itself: the reply's limit ends it."""
PATIENCE_S = 120.0
"""The longest wait on a busy machine before a test fails."""


def environment() -> dict[str, str]:
    """The environment of this process without the settings of the system under test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CHROMA_")}


def run(*arguments: str | Path, expect: int = 0, **settings: str) -> str:
    """Run a `chroma-voice` command to its end and return its output. Its exit status must be `expect`."""
    command = [sys.executable, "-m", "chroma_voice.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment() | settings, timeout=PATIENCE_S)
    output = done.stdout + done.stderr
    assert done.returncode == expect, f"{arguments}: exit status {done.returncode}\n{output}"
    return output


class LocalStack:
    """All processes on this machine, under one launcher with its own state folder.

    `model` is what the launcher is told: `tiny` starts quickly; when empty, the launcher takes its default. `settings`
    are environment variables.
    """

    def __init__(self, state: Path, model: str = TINY, **settings: str) -> None:
        self.folder = StateFolder(state)
        self.model = model
        self.settings = settings

    @property
    def endpoints(self) -> Endpoints:
        """The addresses and process ids of all processes."""
        return self.folder.endpoints()

    def start(self) -> str:
        """Start everything and wait until it is ready. Returns what the launcher printed."""
        model = ("--model", self.model) if self.model else ()
        return run("up", "--detach", "--state", self.folder.path, *model, expect=0, **self.settings)

    def enrol(self) -> None:
        """Enrol the sample voice as `VOICE`."""
        options = ("--transcript", VOICE_TRANSCRIPT, "--consent", "public-domain recording")
        run("voice", "add", VOICE, VOICE_FILE, *options, "--state", self.folder.path)

    def stop(self) -> None:
        """Stop everything."""
        run("down", "--state", self.folder.path)

    def kill(self, name: str) -> int:
        """Kill one of the processes with SIGKILL. Returns its id."""
        pid = self.endpoints.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def back(self, name: str, killed_pid: int) -> None:
        """Wait until the launcher has started `name` again and it is ready."""
        async with asyncio.timeout(PATIENCE_S):
            while self.endpoints.pids.get(name, killed_pid) == killed_pid:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def client(self) -> Client:
        """A client of the gateway."""
        return Client(self.endpoints.gateway, attempts=1)


@contextlib.contextmanager
def running(state: Path, model: str = TINY, **settings: str) -> Iterator[LocalStack]:
    """A started stack with the sample voice enrolled. It is stopped at the end."""
    stack = LocalStack(state, model, **settings)
    stack.start()
    try:
        stack.enrol()
        yield stack
    finally:
        stack.stop()


def wait_gone(pids: list[int]) -> None:
    """Wait until none of these processes runs. Fails after `PATIENCE_S`."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([descriptor], [], [], PATIENCE_S)
            assert ended, f"process {pid} still runs"
        finally:
            os.close(descriptor)


async def reply(talk: Conversation) -> tuple[list[Event], TurnDone]:
    """All events of one turn, and its result."""
    events = [event async for event in talk.reply()]
    assert isinstance(events[0], TurnStarted)
    done = events[-1]
    assert isinstance(done, TurnDone)
    return events, done


async def first_sound(talk: Conversation) -> str:
    """Ask something in text, and read up to the first sound. Returns the id of the turn."""
    await talk.send_text("How do I make a taco?")
    await talk.commit()
    async for event in talk.reply():
        assert not isinstance(event, TurnDone), event
        if isinstance(event, AudioDelta):
            return event.turn_id
    raise AssertionError("the reply has no sound")


async def ask(talk: Conversation) -> TurnDone:
    """Ask something in text. Returns the result of the turn."""
    await talk.send_text("How do I make a taco?")
    await talk.commit()
    _, done = await reply(talk)
    return done


async def ask_until_answered(talk: Conversation) -> TurnDone:
    """Ask again while the answer is UNAVAILABLE, as a client should. Returns the result of the answered turn."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            done = await ask(talk)
            if not isinstance(done.error, Unavailable):
                return done
            await asyncio.sleep(0.2)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds. An OSError, such as of a server that does not listen, means that it does not."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(OSError):
                if condition():
                    return
            await asyncio.sleep(0.5)
