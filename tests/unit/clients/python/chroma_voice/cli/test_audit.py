"""`chroma-voice audit verify`: a whole log, and logs that somebody changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chroma_voice.cli import app
from chroma_voice.errors import FailedPrecondition
from gateway.access.audit import BEGUN, AuditLog
from gateway.access.caller import Caller


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of five lines that a gateway wrote, over a rotation: two in `audit.log.1`."""

    async def write() -> None:
        audit = AuditLog(tmp_path / "audit.log")
        for number in range(5):
            if number == 2:
                (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
            await audit.record(f"action {number}", BEGUN, Caller("acme"))
        await audit.close()

    asyncio.run(write())
    return tmp_path / "audit.log"


def test_a_whole_log_is_good(log: Path) -> None:
    done = CliRunner().invoke(app, ["audit", "verify", f"{log}.1", str(log)])
    assert (done.exit_code, done.output) == (0, "5 lines, none was changed or removed in between\n")
    assert CliRunner().invoke(app, ["audit", "verify", str(log)]).exit_code == 0


@pytest.mark.parametrize("change", ["changed", "removed", "no file between"])
def test_a_changed_or_removed_line_is_found(log: Path, change: str) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    files = [f"{log}.1", str(log)]
    if change == "changed":
        log.write_bytes(lines[0].replace(b"acme", b"evil") + b"".join(lines[1:]))
    elif change == "removed":
        log.write_bytes(lines[0] + lines[2])
    else:
        files.reverse()
    done = CliRunner().invoke(app, ["audit", "verify", *files])
    assert isinstance(done.exception, FailedPrecondition)
    assert "a line before it was changed or removed" in done.exception.message


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("[1]\n")
    done = CliRunner().invoke(app, ["audit", "verify", str(tmp_path / "notes")])
    assert isinstance(done.exception, FailedPrecondition)
