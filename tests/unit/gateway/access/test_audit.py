"""The audit log: its lines, their chain, and what happens when they cannot be written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.access.audit import BEGUN, AuditLog, shortened
from gateway.access.caller import Caller, Scope
from services.common.errors import NotFound, PermissionDenied, Unavailable

ANN = Caller("acme", "key-1", peer="10.0.0.7")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_a_record_says_who_did_what_from_where(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    await audit.record("voice.enrol", BEGUN, ANN, voice="ada")
    with audit.outcome("voice.enrol", ANN, voice="ada"):
        pass
    with pytest.raises(NotFound), audit.outcome("voice.delete", ANN, voice="eve"):
        raise NotFound("no voice")
    await audit.close()
    written = lines(path)
    assert [(it["action"], it["outcome"], it["voice"]) for it in written] == [
        ("voice.enrol", "begun", "ada"),
        ("voice.enrol", "done", "ada"),
        ("voice.delete", "not_found", "eve"),
    ]
    for line in written:
        assert (line["key"], line["tenant"], line["peer"]) == ("key-1", "acme", "10.0.0.7")
        assert line["time"].endswith("+00:00")
    assert path.stat().st_mode & 0o777 == 0o600


async def test_each_line_names_the_one_before_also_over_a_restart_and_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    await audit.record("a", BEGUN, ANN)
    await audit.close()
    audit = AuditLog(path)
    await audit.record("b", BEGUN, ANN)
    path.rename(tmp_path / "audit.log.1")
    await audit.record("c", BEGUN, ANN)
    await audit.close()
    whole = (tmp_path / "audit.log.1").read_bytes().splitlines() + path.read_bytes().splitlines()
    assert [json.loads(line)["action"] for line in whole] == ["a", "b", "c"]
    previous = [json.loads(line)["previous"] for line in whole]
    assert previous == ["0" * 64, *(hashlib.sha256(line).hexdigest() for line in whole[:-1])]


async def test_a_record_that_cannot_be_written_is_unavailable_and_a_queued_one_is_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    await audit.record("a", BEGUN, ANN)
    path.unlink()
    path.mkdir()
    with pytest.raises(Unavailable, match="nothing was changed"):
        await audit.record("b", BEGUN, ANN)
    audit.note("c", BEGUN, ANN)
    path.rmdir()
    await audit.record("d", BEGUN, ANN)
    await audit.close()
    assert "the audit log cannot be written" in caplog.text
    with pytest.raises(Unavailable):
        await audit.record("e", BEGUN, ANN)
    with pytest.raises(Unavailable, match="cannot be written"):
        AuditLog(tmp_path / "no folder" / "audit.log")


async def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    await audit.record("a", BEGUN, ANN)
    whole_write = os.write
    with monkeypatch.context() as patched:
        patched.setattr("gateway.access.audit.os.write", lambda file, data: whole_write(file, data[:10]))
        with pytest.raises(Unavailable):
            await audit.record("b", BEGUN, ANN)
    await audit.record("c", BEGUN, ANN)
    await audit.close()
    assert [it["action"] for it in lines(path)] == ["a", "c"]


async def test_a_flood_of_queued_records_is_counted_and_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access.audit._MAX_WAITING", 3)
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    with audit._news:  # the thread waits for this lock
        for _ in range(10):
            audit.note("auth.refuse", "unauthenticated", ANN)
    await audit.record("a", BEGUN, ANN)
    await audit.close()
    written = lines(path)
    assert len(written) == 4
    assert sum(it.get("left_out", 0) for it in written) == 7


async def test_records_at_once_are_all_written_in_order(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")
    await asyncio.gather(*(audit.record(str(number), BEGUN, ANN) for number in range(200)))
    await audit.close()
    assert [it["action"] for it in lines(tmp_path / "audit.log")] == [str(number) for number in range(200)]


async def test_without_a_file_the_records_go_to_the_logger_audit(caplog: pytest.LogCaptureFixture) -> None:
    audit = AuditLog()
    with caplog.at_level(logging.INFO, "audit"):
        await audit.record("voice.enrol", BEGUN, ANN, voice="ada")
    await audit.close()
    (record,) = caplog.records
    assert record.name == "audit"
    fields: Any = record.__dict__["fields"]
    assert (fields["action"], fields["key"], fields["voice"]) == ("voice.enrol", "key-1", "ada")


def test_a_session_is_shown_by_the_beginning_of_its_id() -> None:
    assert shortened("C-UqOm1LtSlyWCISAgevgrAzWlv8chgm") == "C-UqOm1L..."
    assert shortened("") == ""


async def test_a_scope_that_a_caller_lacks_is_recorded_as_a_refusal(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")
    audit.require(ANN, Scope.VOICES)
    with pytest.raises(PermissionDenied, match="voices"):
        audit.require(Caller("acme", "key-2", frozenset({Scope.TALK})), Scope.VOICES)
    await audit.close()
    (line,) = lines(tmp_path / "audit.log")
    assert (line["action"], line["outcome"], line["reason"], line["key"]) == (
        "caller.refuse",
        "refused",
        "scope",
        "key-2",
    )
