from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chroma_voice.bench.load.plan import PlannedConversation, PlannedTurn, Question
from chroma_voice.bench.records import Health, TurnRecord
from chroma_voice.bench.run import INTERRUPTED, Load, Measured, Watchman, run
from chroma_voice.bench.targets.grpc_target import GrpcTarget
from chroma_voice.bench.targets.realtime_target import RealtimeTarget
from chroma_voice.bench.targets.target import Target
from chroma_voice.errors import Unavailable
from tests.support.gateway_commands import in_background
from tests.support.scripted_target import ScriptedTarget, tone
from tests.support.stalling_servers import StallingGateway, StallingRealtime, Stalls, stalling_realtime

STALLS = Stalls(waits_s=(1.5, 0.0, 4.0), piece_s=0.5)
"""The first sound comes 1.5 s late. The second piece ends 1 s later, and the third comes 3 s after that."""


def load(target: Target, conversations: int = 1, *, duration_s: float | None = None, workers: int = 1) -> Load:
    plan = [
        PlannedConversation(number, 0.3 * number, "reader", False, (PlannedTurn(0),)) for number in range(conversations)
    ]
    return Load(target, plan, [Question("q.wav", tone(0.4))], duration_s, workers)


@contextmanager
def realtime_in_background(server: StallingRealtime) -> Iterator[str]:
    """Serve on the event loop of another thread, and yield the URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = stalling_realtime(server)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def check_stalls(turn: TurnRecord) -> None:
    """The stalls are seen. Their lengths may differ by what a busy machine adds, which is far less than the stalls."""
    assert turn.outcome == "completed", turn
    assert turn.first_sound_s is not None
    assert turn.first_sound_s >= 1.5
    long = [length_s for _, length_s in turn.gaps if length_s > 1.0]
    assert len(long) == 1, turn.gaps
    assert 1.5 < long[0] < 20.0
    assert turn.sound_s == pytest.approx(1.5)


@pytest.mark.slow
def test_a_worker_process_sees_the_stalls_of_a_gateway() -> None:
    with in_background(StallingGateway(STALLS)) as address:
        measured = run(load(GrpcTarget(address), 3, workers=2))
    assert (measured.broken, len(measured.turns)) == ("", 3)
    assert {turn.worker for turn in measured.turns} == {0, 1}
    for turn in measured.turns:
        check_stalls(turn)


@pytest.mark.slow
def test_a_worker_process_sees_the_stalls_of_a_realtime_server() -> None:
    with realtime_in_background(StallingRealtime(STALLS)) as url:
        measured = run(load(RealtimeTarget(url), 2))
    assert measured.broken == ""
    assert len(measured.turns) == 2
    for turn in measured.turns:
        check_stalls(turn)


@pytest.mark.slow
def test_a_server_that_takes_no_connections_for_a_while_is_slow_and_not_unmeasured() -> None:
    with in_background(StallingGateway(Stalls(waits_s=(0.0,), connect_s=2.0))) as address:
        measured = run(load(GrpcTarget(address)))
    (turn,) = measured.turns
    assert turn.first_sound_s is not None
    assert turn.first_sound_s >= 1.6  # the question ends by the plan after 0.4 s, and the connection takes 2 s


@pytest.mark.slow
def test_a_target_that_goes_away_ends_the_run_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "turns.jsonl"
    gateway = StallingGateway(Stalls(waits_s=(0.0,), piece_s=0.2))
    gone = threading.Event()

    def leave_after_two(measured: Measured) -> None:
        if len(measured.turns) >= 2:
            gone.set()

    plan = [PlannedConversation(number, 0.5 * number, "reader", False, (PlannedTurn(0),)) for number in range(2_000)]
    found: list[Measured] = []

    def call(target: Target) -> None:
        held = Load(target, plan, [Question("q.wav", tone(0.2))], 1_000.0)
        found.append(run(held, leave_after_two, file))

    with in_background(gateway) as address:
        thread = threading.Thread(target=call, args=(GrpcTarget(address),))
        thread.start()
        assert gone.wait(120)
    thread.join(120)
    assert not thread.is_alive()
    (measured,) = found
    assert "the target went away after" in measured.broken
    assert address in measured.broken
    assert sum(turn.outcome == "completed" for turn in measured.turns) >= 2
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        json.loads(json.dumps(turn.to_dict())) for turn in measured.turns
    ]


@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_keeps_what_was_measured() -> None:
    sent = False

    def interrupt(measured: Measured) -> None:
        nonlocal sent
        if measured.turns and not sent:
            sent = True
            signal.raise_signal(signal.SIGINT)

    # A shell that starts the tests in the background makes them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with in_background(StallingGateway(Stalls(waits_s=(0.0,), piece_s=0.2))) as address:
            measured = run(load(GrpcTarget(address), 500, duration_s=1_000.0), interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert measured.broken.startswith(INTERRUPTED)
    assert measured.turns


class Away(ScriptedTarget):
    async def probe(self) -> list[str]:
        raise Unavailable("no gateway answers")


def lost(status: str) -> TurnRecord:
    return TurnRecord(0, 0, 0, "", False, "q", 1.0, 1.0, outcome="failed", status=status)


def test_a_target_counts_as_gone_when_lost_turns_are_followed_by_failed_probes() -> None:
    watchman = Watchman(Away(), every_s=0.0)
    watchman.note([lost("RESOURCE_EXHAUSTED")])
    watchman.join()
    assert watchman.gone == ""
    watchman.note([lost("UNAVAILABLE")])
    watchman.join()
    assert watchman.gone == "no gateway answers"


def test_a_target_that_answers_a_probe_is_not_gone() -> None:
    watchman = Watchman(ScriptedTarget(), every_s=0.0)
    watchman.note([lost("UNAVAILABLE")])
    watchman.join()
    assert watchman.gone == ""


def test_open_conversations_are_those_of_each_workers_last_news() -> None:
    health = [
        Health(worker, at_s, 0.25, 0.1, 0.0, 0.0, count, 0) for worker, at_s, count in ((0, 1, 5), (1, 1, 2), (0, 2, 3))
    ]
    assert Measured(0.0, health=health).open_conversations() == 5
    assert Measured(0.0).open_conversations() == 0
