"""The budget of a stage, its learning rate, and the artefact files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from train.optim.training_loop import Budget, Report, load_artefact, save_artefact


def test_a_budget_of_steps_ends_after_them_with_a_low_rate() -> None:
    budget = Budget(minutes=10, peak_rate=1.0, warm_up_steps=4, max_steps=20)
    rates = [budget.rate for _ in budget.steps()]
    assert len(rates) == 20
    assert rates[:3] == sorted(rates[:3])
    assert max(rates) == rates[3] == pytest.approx(0.95, abs=0.05)
    assert rates[-1] < 0.05
    assert budget.spent == 1.0


def test_a_budget_without_time_has_no_steps() -> None:
    assert list(Budget(minutes=1e-9, peak_rate=1.0).steps()) == []


def test_a_report_prints_means_every_50_steps(capsys: pytest.CaptureFixture[str]) -> None:
    budget = Budget(minutes=10, peak_rate=1.0, max_steps=60)
    with Report("stage", budget) as report:
        for step in budget.steps():
            report.add(loss=float(step))
    assert "loss 24.5000" in capsys.readouterr().out


def test_an_artefact_comes_back_in_float32_rounded_to_float16(tmp_path: Path) -> None:
    stored = {"weight": torch.tensor([1.0, 1e-3, 0.1]), "count": torch.tensor(7)}
    save_artefact(tmp_path / "deep" / "part.safetensors", stored)
    found = load_artefact(tmp_path / "deep" / "part.safetensors")
    assert torch.equal(found["weight"], stored["weight"].half().float())
    assert found["count"] == 7
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["part.safetensors"]


def test_a_missing_artefact_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"speech\.safetensors: not there; run the stage"):
        load_artefact(tmp_path / "speech.safetensors")
