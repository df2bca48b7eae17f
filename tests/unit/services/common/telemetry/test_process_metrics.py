"""What every process shows of itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from prometheus_client import REGISTRY

from services.common.telemetry.process_metrics import TASKS, announce_checkpoint, watch_certificates, watch_tasks
from tests.support.certificates import write_pair


async def test_tasks_of_the_event_loop_are_counted_when_asked_for() -> None:
    watch_tasks("process-a")
    tasks = len(asyncio.all_tasks())
    waiting = asyncio.create_task(asyncio.Event().wait())
    assert REGISTRY.get_sample_value("chroma_voice_tasks", {"service": "process-a"}) == tasks + 1
    waiting.cancel()
    TASKS.remove("process-a")


def test_the_checkpoint_is_shown_with_its_fingerprint() -> None:
    announce_checkpoint(
        "process-b", fingerprint="f1", dtype="float32", device="cpu", weights="int8", weights_fingerprint="w1"
    )
    labels = {"service": "process-b", "fingerprint": "f1", "dtype": "float32", "device": "cpu"}
    labels |= {"weights": "int8", "weights_fingerprint": "w1"}
    assert REGISTRY.get_sample_value("chroma_voice_checkpoint_info", labels) == 1


def test_the_end_of_a_certificate_is_shown_and_follows_its_renewal(tmp_path: Path) -> None:
    def shown() -> float | None:
        labels = {"service": "process-c", "file": "tls_cert"}
        return REGISTRY.get_sample_value("chroma_voice_certificate_expiry_timestamp_seconds", labels)

    authority, soon = trustme.CA(), datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    write_pair(tmp_path, authority, "reasoner", not_after=soon)
    watch_certificates("process-c", {"tls_cert": tmp_path / "tls.crt"})
    assert shown() == soon.timestamp()
    write_pair(tmp_path, authority, "reasoner", not_after=soon + timedelta(days=60))
    assert shown() == (soon + timedelta(days=60)).timestamp()
    (tmp_path / "tls.crt").write_text("not a certificate")
    assert shown() == 0
    (tmp_path / "tls.crt").unlink()
    assert shown() == 0
