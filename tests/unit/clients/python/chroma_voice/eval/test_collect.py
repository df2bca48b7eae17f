"""Replies are collected and kept, also those before the deployment went away."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chroma_voice.bench.targets.grpc_target import GrpcTarget
from chroma_voice.eval.collect import PROBES, Asking, Collector
from chroma_voice.eval.folder import read_folder
from chroma_voice.eval.records import ReplyRecord
from tests.support.eval_results import write_folder
from tests.support.fake_gateway import serving
from tests.support.speaking_gateway import TEXT, SpeakingGateway


@asynccontextmanager
async def collecting(gateway: SpeakingGateway, tmp_path: Path, at_once: int = 1) -> AsyncIterator[Collector]:
    """A collector of the four pairs of two voices."""
    pairs = read_folder(write_folder(tmp_path / "pairs"))
    async with serving(gateway) as address:
        yield Collector(GrpcTarget(address, store=False), pairs, tmp_path, Asking(at_once), pause=_no_time)


async def _no_time(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_all_pairs_are_asked_in_their_voices(tmp_path: Path, at_once: int) -> None:
    gateway = SpeakingGateway()
    async with collecting(gateway, tmp_path, at_once) as collector:
        await collector.run()
    replies = sorted(collector.collected.replies, key=lambda record: record.number)
    assert [(one.number, one.voice, one.kind, one.text, one.ended) for one in replies] == [
        (1, "ann", "spoken", TEXT, "eos"),
        (2, "ann", "typed", TEXT, "eos"),
        (3, "ben", "spoken", TEXT, "eos"),
        (4, "ben", "typed", TEXT, "eos"),
    ]
    assert all((tmp_path / one.file).is_file() and one.sound and one.sound.seconds == 0.5 for one in replies)
    assert collector.collected.broken == ""
    assert gateway.deleted == ["ann", "ben"]
    lines = (tmp_path / "replies.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["number"] for line in lines) == [1, 2, 3, 4]


async def test_a_failed_reply_leaves_the_others(tmp_path: Path) -> None:
    gateway = SpeakingGateway()
    gateway.failing = {"ann"}
    async with collecting(gateway, tmp_path) as collector:
        await collector.run()
    assert [(one.status, one.message) for one in collector.collected.replies] == [
        ("INTERNAL", "a step failed"),
        ("INTERNAL", "a step failed"),
        ("OK", ""),
        ("OK", ""),
    ]


async def test_a_silent_reply_is_no_reply(tmp_path: Path) -> None:
    gateway = SpeakingGateway()
    gateway.is_silent = True
    async with collecting(gateway, tmp_path) as collector:
        await collector.run()
    assert {one.status for one in collector.collected.replies} == {"NO_SOUND"}


async def test_a_voice_that_cannot_be_enrolled_fails_its_pairs_only(tmp_path: Path) -> None:
    gateway = SpeakingGateway("ann")
    gateway.voices["ann"].transcript = "Other words."
    async with collecting(gateway, tmp_path) as collector:
        await collector.run()
    assert [one.status for one in collector.collected.replies] == ["FAILED_PRECONDITION"] * 2 + ["OK"] * 2


async def test_what_came_before_the_deployment_went_away_is_kept(tmp_path: Path) -> None:
    seen: list[ReplyRecord] = []
    async with collecting(SpeakingGateway(gone_after=1), tmp_path) as collector:
        collector._on_reply = seen.append
        await collector.run()
    assert collector.collected.broken.startswith("the target went away after 1 replies: no gateway answers")
    assert [one.status for one in seen] == ["OK", "UNAVAILABLE"]
    assert PROBES > 1
    assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == 2


async def test_a_cancelled_run_leaves_what_was_collected(tmp_path: Path) -> None:
    gateway = SpeakingGateway()
    async with collecting(gateway, tmp_path) as collector:
        reached = asyncio.Event()
        collector._on_reply = lambda record: reached.set()
        running = asyncio.create_task(collector.run())
        await reached.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert collector.collected.replies
    assert gateway.voices == {}
