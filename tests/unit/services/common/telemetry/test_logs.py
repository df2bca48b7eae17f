"""Log lines as people and machines read them."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from typing import Literal

import pytest

from services.common.rpc import context
from services.common.telemetry.logs import configure_logs


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    token = context.turn_id.set("turn-7")
    yield
    context.turn_id.reset(token)
    root.handlers[:], root.level = handlers, level


def test_a_json_line_carries_service_turn_fields_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "json", "codec")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed", extra={"fields": {"seconds": 0.12345678}})
    line = json.loads(capsys.readouterr().err)
    assert (line["service"], line["turn"], line["level"], line["message"]) == ("codec", "turn-7", "ERROR", "failed")
    assert line["seconds"] == 0.123457
    assert "ValueError: broken" in line["exception"]
    assert "session" not in line


def test_a_line_names_its_process_where_a_service_has_several(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "text", "gateway", 2)
    logging.getLogger("x").info("done")
    assert capsys.readouterr().err.endswith("INFO x process=2 turn=turn-7 done\n")
    configure_logs("INFO", "json", "gateway", 2)
    logging.getLogger("x").info("done")
    assert json.loads(capsys.readouterr().err)["process"] == 2
    configure_logs("INFO", "json", "gateway")
    logging.getLogger("x").info("done")
    assert "process" not in json.loads(capsys.readouterr().err)


def test_a_text_line_names_the_turn_and_ends_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "text")
    logging.getLogger("x").info("done", extra={"fields": {"frames": 3}})
    logging.getLogger("x").debug("too fine")
    assert capsys.readouterr().err.endswith('INFO x turn=turn-7 done {"frames": 3}\n')


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_shows_the_first_characters_of_a_session_id_only(
    capsys: pytest.CaptureFixture[str], style: Literal["text", "json"]
) -> None:
    session_id, other = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    configure_logs("INFO", style)
    token = context.session_id.set(session_id)
    logging.getLogger("x").info("no session %r, GET /v1/sessions/%s", other, other)
    context.session_id.reset(token)
    line = capsys.readouterr().err
    assert session_id not in line
    assert other not in line
    assert session_id[:8] in line
    assert f"no session '{other[:8]}...', GET /v1/sessions/{other[:8]}..." in line


def test_a_line_names_tenant_and_key(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "text")
    tokens = context.tenant.set("acme"), context.key_id.set("server")
    logging.getLogger("x").info("done")
    context.tenant.reset(tokens[0])
    context.key_id.reset(tokens[1])
    assert capsys.readouterr().err.endswith("INFO x turn=turn-7 tenant=acme key=server done\n")
