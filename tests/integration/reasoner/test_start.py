"""What stops the reasoner at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import CheckpointError
from services.reasoner import __main__ as process
from services.reasoner.settings import ReasonerSettings
from tests.support.think_service import golden_with_tokenizer


def test_template_that_fails_is_named_before_the_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = golden_with_tokenizer(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ 'you: ' + messages[0]['content'] }}")

    def read_weights(*_: object, **__: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr(process, "load_thinker", read_weights)
    with pytest.raises(CheckpointError, match="the chat template fails on a conversation: TypeError"):
        process.load(ReasonerSettings(model=str(folder)))
