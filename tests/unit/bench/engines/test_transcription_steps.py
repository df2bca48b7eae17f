"""The benchmark of transcripts at the reasoner: every turn gets its first thought, whatever runs beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.engines.transcription_steps import NewRunner, first_thoughts, load, measure
from checkpoints.writer import write_checkpoint


@pytest.fixture(scope="module")
def new_runner(tmp_path_factory: pytest.TempPathFactory) -> NewRunner:
    folder: Path = tmp_path_factory.mktemp("tiny")
    write_checkpoint("tiny", folder, seed=3, endless=True)
    return load(folder)


@pytest.mark.parametrize(("passes", "low_priority"), [(0, False), (2, True), (2, False)])
async def test_each_turn_has_a_first_thought(new_runner: NewRunner, passes: int, *, low_priority: bool) -> None:
    speech = torch.sin(torch.arange(16_000) / 10) * 0.3
    found = await first_thoughts(new_runner, speech, 2, passes=passes, low_priority=low_priority, begun=3)
    assert len(found) == 2
    assert min(found) > 0


async def test_the_three_cases_are_measured(new_runner: NewRunner) -> None:
    speech = torch.sin(torch.arange(16_000) / 10) * 0.3
    found = await measure(new_runner, speech, 1, begun=[1])
    assert set(found) == {"alone", "low priority", "as equals"}
