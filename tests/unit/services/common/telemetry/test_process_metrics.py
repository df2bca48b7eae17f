"""What every process shows of itself."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from services.common.telemetry.process_metrics import TASKS, announce_checkpoint, watch_tasks


async def test_tasks_of_the_event_loop_are_counted_when_asked_for() -> None:
    watch_tasks("process-a")
    tasks = len(asyncio.all_tasks())
    waiting = asyncio.create_task(asyncio.Event().wait())
    assert REGISTRY.get_sample_value("chroma_voice_tasks", {"service": "process-a"}) == tasks + 1
    waiting.cancel()
    TASKS.remove("process-a")


def test_the_checkpoint_is_shown_with_its_fingerprint() -> None:
    announce_checkpoint("process-b", fingerprint="f1", dtype="float32", device="cpu")
    labels = {"service": "process-b", "fingerprint": "f1", "dtype": "float32", "device": "cpu"}
    assert REGISTRY.get_sample_value("chroma_voice_checkpoint_info", labels) == 1
