"""The kept inputs of the fuzzer pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

_CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_is_taken_or_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    inputs = sorted((_CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())
    assert not [record for record in caplog.records if record.exc_info]
