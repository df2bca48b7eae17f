"""Log lines as people and machines read them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

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


def test_a_text_line_names_the_turn_and_ends_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "text")
    logging.getLogger("x").info("done", extra={"fields": {"frames": 3}})
    logging.getLogger("x").debug("too fine")
    assert capsys.readouterr().err.endswith('INFO x turn=turn-7 done {"frames": 3}\n')
