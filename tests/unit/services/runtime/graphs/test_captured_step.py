"""A step is rounded up to a shape, filled with padding, and then computed or replayed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from services.runtime.graphs.captured_step import CapturedStep
from services.runtime.graphs.graphs import StepGraphs
from services.runtime.graphs.staging import Field, Fields

CPU = torch.device("cpu")


def fields(width: int) -> Fields:
    return {"x": Field((width,), padding=-1)}


class Computed:
    """Records the shape and the inputs of each computed step."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[int]]] = []

    def __call__(self, width: int, inputs: Mapping[str, Tensor]) -> None:
        self.steps.append((width, inputs["x"].tolist()))


def new_step(*, padded: bool) -> CapturedStep[int]:
    return CapturedStep("double", StepGraphs(CPU, padded=padded), shapes=[4, 2], fields=fields)


def test_a_step_computes_from_its_inputs_and_padding() -> None:
    step, computed = new_step(padded=True), Computed()
    inputs = step.inputs(4)
    inputs.fill(x=[7, 8, 9])
    step.run(4, inputs, computed)
    assert computed.steps == [(4, [7, 8, 9, -1])]


def test_padded_steps_of_a_shape_use_the_same_memory() -> None:
    step = new_step(padded=True)
    assert step.inputs(2).device["x"].data_ptr() == step.inputs(2).device["x"].data_ptr()
    assert step.inputs(2).device["x"].data_ptr() == step.inputs(4).device["x"].data_ptr()


def test_a_step_that_is_not_padded_has_any_shape() -> None:
    step, computed = new_step(padded=False), Computed()
    inputs = step.inputs(3)
    inputs.fill(x=[1, 2, 3])
    step.run(3, inputs, computed)
    assert computed.steps == [(3, [1, 2, 3])]


def test_capture_takes_every_shape_in_order_with_padding_alone() -> None:
    step, computed = new_step(padded=True), Computed()
    step.inputs(4).fill(x=[1, 2, 3, 4])
    step.capture(computed)
    assert computed.steps == [(4, [-1] * 4), (2, [-1] * 2)]


def test_capture_does_nothing_where_steps_are_not_padded() -> None:
    computed = Computed()
    new_step(padded=False).capture(computed)
    assert computed.steps == []


def test_two_kinds_of_step_keep_their_graphs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = StepGraphs(CPU, padded=True)
    keys: list[object] = []
    monkeypatch.setattr(graphs, "run", lambda key, step: keys.append(key))
    for name in ("one", "other"):
        step = CapturedStep(name, graphs, shapes=[2], fields=fields)
        step.run(2, step.inputs(2), Computed())
    assert keys == [("one", 2), ("other", 2)]
