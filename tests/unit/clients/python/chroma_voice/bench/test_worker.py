from __future__ import annotations

import asyncio
import time

import pytest

from chroma_voice.bench.load.plan import PlannedConversation, PlannedTurn, Question
from chroma_voice.bench.records import TurnRecord
from chroma_voice.bench.worker import Job, News, run_job
from tests.support.scripted_target import Piece, ScriptedTarget, tone
from tests.support.virtual_time import virtual_time


async def run(
    *at_s: float, script: ScriptedTarget, duration_s: float | None = 10.0, stop_s: float | None = None
) -> list[News]:
    """The news of a worker whose conversations of one turn arrive at these times."""
    plan = [PlannedConversation(index, when_s, "", False, (PlannedTurn(0),)) for index, when_s in enumerate(at_s)]
    news: list[News] = []
    stop = asyncio.Event()
    with virtual_time():
        if stop_s is not None:
            asyncio.get_running_loop().call_later(stop_s, stop.set)
        job = Job(2, plan, [Question("q", tone(1.0))], script, time.time(), duration_s, 5.0, 0.0, 30.0)
        await asyncio.wait_for(run_job(job, news.append, stop), 10_000)
    assert [each.is_last for each in news] == [False] * (len(news) - 1) + [True]
    return news


def turns(news: list[News]) -> list[TurnRecord]:
    return [turn for each in news for turn in each.turns]


async def test_conversations_begin_at_their_times_and_are_reported_as_they_end() -> None:
    news = await run(0.5, 4.0, script=ScriptedTarget())
    assert [turn.asked_s for turn in turns(news)] == pytest.approx([1.5, 5.0], abs=0.1)
    assert [turn.worker for turn in turns(news)] == [2, 2]
    first = next(each for each in news if each.turns)
    assert first.health.at_s == pytest.approx(2.6, abs=0.4)
    assert max(each.health.conversations for each in news) == 1
    assert max(each.health.replies for each in news) == 1
    assert news[-1].health.at_s == pytest.approx(10.0, abs=0.2)


async def test_turns_under_way_may_end_and_what_takes_longer_is_cut_off() -> None:
    slow = ScriptedTarget(pieces=[Piece(3.0, tone(1.0))])
    news = await run(8.5, script=slow)
    assert [turn.outcome for turn in turns(news)] == ["completed"]
    endless = ScriptedTarget(pieces=[Piece(20.0, tone(1.0))])
    news = await run(8.5, script=endless)
    assert [turn.outcome for turn in turns(news)] == ["unfinished"]
    assert news[-1].health.at_s == pytest.approx(15.0, abs=0.2)


async def test_a_plan_without_a_duration_is_held_to_its_end() -> None:
    news = await run(0.0, 50.0, script=ScriptedTarget(), duration_s=None)
    assert [turn.outcome for turn in turns(news)] == ["completed"] * 2
    assert news[-1].health.at_s == pytest.approx(52.1, abs=0.3)


async def test_a_worker_that_is_told_to_stop_keeps_what_it_has() -> None:
    news = await run(0.0, 3.0, 9.0, script=ScriptedTarget(), stop_s=3.5)
    assert [turn.outcome for turn in turns(news)] == ["completed", "unfinished"]
