"""The fault matrix: each process killed, frozen, slow, restarted, out of disk, out of memory, and on a read-only disk.

Two replicas of each service and two gateways run over one store. In each cell a voice and a turn are acknowledged, then
a turn runs, and the fault happens to a process that works for this turn. The cell says how the turn may end. In all
cells:

- What was acknowledged is there afterwards, and a turn that was told as unrecorded is not.
- A turn that fails ends within `DETECTED_TO_END_S` of the moment at which its gateway shows that a replica of the
  service is gone, and within `CLEAR_STATUS_S` of the fault. Its text names no address, path or class.
- A conversation that runs on the other replica, or through the other gateway, goes on.
- Turns are recorded again while the fault lasts, because the other replica takes them. The store has no replica: its
  turns are recorded when the fault is over.
- Nobody restarts a process that still runs. A process that ended is started again, as every supervisor does.
- No slot, page, task, call, file descriptor or key of the store is left, and no log has a traceback.

What stands for a fault:

- slow: SIGSTOP and SIGCONT in turn, so that the process runs for a sixth of the time.
- disk full, read-only: each process has a small disk of its own for all that it writes, under a read-only root. The
  model services write temporary files only, if any, so they must simply go on. A write that does not fit ends Valkey.
  It keeps its file open, so a read-only store is one that has lost its copies (`min-replicas-to-write`).
- memory full: the kernel refuses every further allocation (RLIMIT_AS); the store reaches its own limit (`maxmemory`).
  The out-of-memory killer ends a process as kill -9 does.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import soundfile

from chroma_voice import ChromaError, Client, Conversation, NotFound, TurnDone, Unavailable
from gateway.tasks import cancel
from tests.support.faults import disk_full, fault
from tests.support.held import Held, held, no_key_left, nothing_left
from tests.support.local_stack import LONG_SPEECH, QUESTION, VOICE_FILE, VOICE_TRANSCRIPT, ask, first_sound
from tests.support.replicated_stack import REPLICAS, SERVICES, ReplicatedStack, replicated
from tests.support.server_process import Replica, ServerProcess
from tests.support.small_disks import refusal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DETECTED_TO_END_S = 2.0
"""The contract: a turn that fails has ended so long after the gateway knew that a service of it was gone."""
CLEAR_STATUS_S = 10.0
"""How long it may take from the fault to the end of a turn that fails, beside the 4 s that the turn takes: 2 s, and the
rest for a busy machine."""
TURN_S = 60.0
"""Every turn ends within this time."""
RECOVERY_S = 60.0
REPLY_S = 4.0
PRIVATE = re.compile(r"\d+\.\d+\.\d+\.\d+|ipv[46]:|/|[A-Z][a-z]+Error|recvmsg|Stream removed|Socket")
"""What a failure's text must not have: an address, a path, a class, the words of a transport."""

COMPLETED = frozenset({"completed"})
UNAVAILABLE = frozenset({"UNAVAILABLE"})
UNRECORDED = frozenset({"unrecorded"})
EITHER = COMPLETED | UNAVAILABLE


@dataclass(frozen=True)
class Cell:
    """One process and one fault. `ends`: how the running turn may end: "completed" (and recorded), "unrecorded"
    (completed, and told as not recorded), or the status of its failure.
    """

    process: str
    fault: str
    ends: frozenset[str]

    def __str__(self) -> str:
        return f"{self.process}-{self.fault}"


CELLS = [
    # The reasoner is hurt during the question. Another replica gets the whole question.
    Cell("reasoner", "killed", COMPLETED),
    Cell("reasoner", "frozen", EITHER),
    Cell("reasoner", "slow", COMPLETED),
    Cell("reasoner", "restarted", COMPLETED),
    Cell("reasoner", "disk_full", COMPLETED),
    Cell("reasoner", "memory_full", EITHER | {"RESOURCE_EXHAUSTED"}),
    Cell("reasoner", "read_only", COMPLETED),
    # The other services are hurt during the reply. Its sound cannot be taken over.
    *(
        Cell(service, fault, ends)
        for service in ("speech_gen", "codec")
        for fault, ends in (
            ("killed", UNAVAILABLE),
            ("frozen", UNAVAILABLE),
            ("slow", COMPLETED),
            ("restarted", COMPLETED),
            ("disk_full", COMPLETED),
            ("memory_full", EITHER | {"RESOURCE_EXHAUSTED"}),
            ("read_only", COMPLETED),
        )
    ),
    Cell("gateway", "killed", UNAVAILABLE),
    Cell("gateway", "frozen", EITHER),
    Cell("gateway", "slow", COMPLETED),
    Cell("gateway", "restarted", COMPLETED),
    Cell("gateway", "disk_full", COMPLETED),
    Cell("gateway", "memory_full", EITHER | {"RESOURCE_EXHAUSTED"}),
    Cell("gateway", "read_only", COMPLETED),
    Cell("valkey", "killed", COMPLETED | UNRECORDED),
    Cell("valkey", "frozen", UNRECORDED),
    Cell("valkey", "slow", COMPLETED | UNRECORDED),
    Cell("valkey", "restarted", COMPLETED | UNRECORDED),
    Cell("valkey", "disk_full", COMPLETED | UNRECORDED),
    Cell("valkey", "memory_full", UNRECORDED),
    Cell("valkey", "read_only", UNRECORDED),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedStack]:
    with replicated(tmp_path_factory.mktemp("faults"), small_disks=not refusal()) as stack:
        yield stack


@pytest.fixture(scope="module")
def most(stack: ReplicatedStack) -> dict[Replica, Held]:
    """The most that each process may hold when nothing runs: what it holds after a first load."""

    async def load() -> dict[Replica, Held]:
        async def talk(gateway: int, voice: str) -> None:
            async with stack.client(gateway) as client:
                for _ in range(2):
                    async with client.conversation(voice=voice, max_reply_s=1.0, max_lead_s=0) as conversation:
                        assert (await ask(conversation)).recorded

        await asyncio.gather(*(talk(gateway, voice) for gateway in range(2) for voice in stack.voices))
        await asyncio.sleep(1.0)
        return {replica: held(replica) for replica in stack.all()}

    return asyncio.run(load())


def check_text(error: ChromaError) -> None:
    """Check that the text of a failure, as a client gets it from a gateway, tells nothing of the inside."""
    assert error.status not in ("INTERNAL", "UNKNOWN"), error
    assert not PRIVATE.search(str(error)), error


# The running turns.


@dataclass
class Running:
    """A conversation with a turn that has not ended. `to_send` is the rest of the question, if it has not been sent."""

    talk: Conversation
    processes: list[Replica]
    """The replicas that work for the turn."""
    to_send: bytes = b""
    ended_s: float = 0.0
    """When the end of the turn was read, in monotonic seconds."""

    async def end(self) -> str:
        """Send the rest of the question, and read up to the end of the turn. Returns how it ended."""
        try:
            return await self._end()
        finally:
            self.ended_s = time.monotonic()

    async def _end(self) -> str:
        try:
            async with asyncio.timeout(TURN_S):
                if self.to_send:
                    await self.talk.send_audio(self.to_send)
                    await self.talk.commit()
                done = [event async for event in self.talk.reply()][-1]
        except Unavailable:
            return "UNAVAILABLE"
        assert isinstance(done, TurnDone)
        if done.error is not None:
            check_text(done.error)
            return done.error.status
        return "completed" if done.recorded else "unrecorded"


async def start_turn(
    stack: ReplicatedStack, client: Client, voice: str, calls: contextlib.AsyncExitStack, *, spoken: bool
) -> Running:
    """Start a turn: half of a spoken question, or a text question with a reply that is heard to begin."""
    samples, sample_rate_hz = soundfile.read(QUESTION, dtype="int16")
    talk = await calls.enter_async_context(
        client.conversation(
            voice=voice, sampling=LONG_SPEECH, max_reply_s=REPLY_S, max_lead_s=0.2, input_rate_hz=sample_rate_hz
        )
    )
    processes = [stack.home("reasoner", talk.session.session_id)]
    if spoken:
        half = len(samples) // 2
        await talk.send_audio(samples[:half].tobytes())
        return Running(talk, processes, samples[half:].tobytes())
    turn_id = await first_sound(talk)
    return Running(talk, [stack.home("speech_gen", voice), stack.home("codec", turn_id)])


async def start_two_turns(
    stack: ReplicatedStack, clients: list[Client], process: str, calls: contextlib.AsyncExitStack
) -> tuple[Running, Running, ServerProcess]:
    """Start a turn for the fault, and one that none of the hurt processes works for. The third is what is hurt."""
    spoken = process == "reasoner"
    while True:
        first = await start_turn(stack, clients[0], stack.voices[0], calls, spoken=spoken)
        other = await start_turn(stack, clients[1], stack.voices[1], calls, spoken=spoken)
        if process == "valkey":
            return first, other, stack.store
        if process == "gateway":
            return first, other, stack.replicas["gateway"][0]
        hurt = next(replica for replica in first.processes if replica.service == process)
        if hurt not in other.processes:
            return first, other, hurt
        # Both begin anew: a turn that began earlier might be almost over.
        for client, each in zip(clients, (first, other), strict=True):
            await each.talk.__aexit__(None, None, None)
            await client.delete_session(each.talk.session.session_id)


# What the gateway of the first turn knows.


class Detection:
    """When a gateway shows that a replica of this service is gone. `run` looks at its metrics until then."""

    def __init__(self, gateway: Replica, service: str) -> None:
        self.known_s: float | None = None
        """The last moment at which all replicas still served, in monotonic seconds. None: they serve."""
        self._known = asyncio.Event()
        self._gateway = gateway
        self._series = f'chroma_voice_replicas{{stage="{service}",state="serving"}}'

    async def run(self) -> None:
        """Look until a replica is gone."""
        last_s = time.monotonic()
        while self.known_s is None:
            asked_s = time.monotonic()
            if await asyncio.to_thread(self._gateway.metric, self._series) == REPLICAS:
                last_s = asked_s
                await asyncio.sleep(0.02)
            else:
                self.known_s = last_s
                self._known.set()

    async def known(self, fault: str) -> float:
        """When the gateway knew. A process that still answers, without memory, is not gone: then there is no such
        moment, and the turn's own failure tells of the fault."""
        if fault in ("killed", "frozen"):
            await asyncio.wait_for(self._known.wait(), RECOVERY_S)
        return time.monotonic() if self.known_s is None else self.known_s


@contextlib.asynccontextmanager
async def watching(stack: ReplicatedStack, process: str) -> AsyncIterator[Detection | None]:
    """Watch what the first turn's gateway knows of a model service. None: the process is none."""
    if process not in SERVICES:
        yield None
        return
    detection = Detection(stack.replicas["gateway"][0], process)
    looking = asyncio.create_task(detection.run())
    yield detection
    await cancel(looking)


# The cells.


async def recorded_turn(client: Client, session_id: str) -> None:
    """Ask on a session, with a new call each time, until a turn is recorded."""
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                async with client.conversation(session_id=session_id, max_lead_s=0) as talk:
                    done = await ask(talk)
                if done.error is None and done.recorded:
                    return
                if done.error is not None:
                    check_text(done.error)
            except Unavailable as error:
                check_text(error)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_a_fault_ends_its_own_turns_clearly_and_loses_nothing(
    stack: ReplicatedStack, most: dict[Replica, Held], cell: Cell
) -> None:
    if stack.disks is None and cell.fault in ("disk_full", "read_only"):
        pytest.skip(f"this machine forbids user namespaces, so there are no small disks: {refusal()}")
    keys = set(await stack.store.command("KEYS", "*"))
    logs = {each: each.log_file.stat().st_size for each in stack.processes()}
    guest = f"guest-{cell.process}-{cell.fault}".replace("_", "-")
    async with stack.client(0) as first, stack.client(1) as second, contextlib.AsyncExitStack() as calls:
        await second.create_voice(
            guest, audio_file=VOICE_FILE.read_bytes(), transcript=VOICE_TRANSCRIPT, consent="told"
        )
        async with second.conversation(voice=guest, max_reply_s=1.0, max_lead_s=0) as talk:
            kept = talk.session.session_id
            assert (await ask(talk)).recorded
        running, other, process = await start_two_turns(stack, [first, second], cell.process, calls)
        async with watching(stack, cell.process) as detection, fault(cell.fault, stack, process):
            hurt_s = time.monotonic()
            end, others_end = await asyncio.gather(running.end(), other.end())
            assert end in cell.ends
            if end not in ("completed", "unrecorded"):
                assert running.ended_s - hurt_s < CLEAR_STATUS_S + REPLY_S
                if detection is not None:
                    assert running.ended_s - await detection.known(cell.fault) < DETECTED_TO_END_S
            if cell.process == "valkey":
                assert others_end in cell.ends
            else:
                assert others_end == "completed"
                await recorded_turn(second, kept)
        await recorded_turn(second, kept)
        entries = (await second.get_session(kept)).entries
        assert len(entries) == 2 * (2 + (cell.process != "valkey"))
        assert (await second.get_voice(guest)).transcript == VOICE_TRANSCRIPT
        for talk, how in ((running.talk, end), (other.talk, others_end)):
            stored = (await second.get_session(talk.session.session_id)).entries
            if cell.process != "gateway" or how == "completed":
                assert len(stored) == 2 * (how == "completed")
        await calls.aclose()
        for session_id in (kept, running.talk.session.session_id, other.talk.session.session_id):
            await second.delete_session(session_id)
        await second.delete_voice(guest)
    await nothing_left(stack, most)
    await no_key_left(stack, keys)
    for each, size in logs.items():
        if cell.fault == "memory_full" and each is process:
            continue  # it logs which allocation failed
        written = each.log_file.read_bytes()[size:].decode()
        assert "Traceback" not in written, f"{each.log_file.stem}: {written[-5000:]}"


async def enrol_many(client: Client) -> None:
    """Enrol voices until the last page of the audit log has no room for another line."""
    for number in range(20):
        await client.create_voice(
            f"line-{number}", audio_file=VOICE_FILE.read_bytes(), transcript=VOICE_TRANSCRIPT, consent="told"
        )


async def recorded_session(client: Client, voice: str) -> str:
    """Have a turn. Returns the id of its session."""
    async with client.conversation(voice=voice, max_reply_s=1.0, max_lead_s=0) as talk:
        assert (await ask(talk)).recorded
    return talk.session.session_id


async def test_a_gateway_whose_audit_log_has_no_room_refuses_enrolments_and_deletions_and_nothing_else(
    stack: ReplicatedStack,
) -> None:
    if stack.disks is None:
        pytest.skip(f"this machine forbids user namespaces, so there are no small disks: {refusal()}")
    gateway = stack.replicas["gateway"][0]
    async with stack.client(0) as client:
        async with disk_full(stack, gateway):
            with pytest.raises(Unavailable, match="the audit log cannot be written, so nothing was changed"):
                await enrol_many(client)
            with pytest.raises(Unavailable, match="the audit log cannot be written, so nothing was changed"):
                await client.delete_voice(stack.voices[0])
            sessions = [await recorded_session(client, stack.voices[0]) for _ in range(2)]
            with contextlib.suppress(Unavailable):  # its line is shorter than those of voices, so it may still fit
                await client.delete_session(sessions[0])
            with pytest.raises(Unavailable, match="the audit log cannot be written, so nothing was changed"):
                await client.delete_session(sessions[1])
        await client.delete_session(sessions[1])
        with contextlib.suppress(NotFound):
            await client.delete_session(sessions[0])
        enrolled = [voice.voice_id async for voice in client.list_voices() if voice.voice_id.startswith("line-")]
        assert f"line-{len(enrolled)}" not in enrolled
        for voice_id in enrolled:
            await client.delete_voice(voice_id)
        assert (await client.get_voice(stack.voices[0])).transcript == VOICE_TRANSCRIPT
