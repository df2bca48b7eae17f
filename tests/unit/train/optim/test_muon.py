"""Muon gets the matrices inside the layers, AdamW all other trained parameters."""

from __future__ import annotations

import torch
from torch import nn

from train.optim.muon import MuonAndAdamW


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4)])
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_each_trained_parameter_has_one_optimizer() -> None:
    model = Model()
    muon, adamw = MuonAndAdamW([model]).param_groups
    assert [parameter.shape for parameter in muon["params"]] == [(4, 4)]
    assert muon["params"][0] is model.layers[0].weight
    assert {id(parameter) for parameter in adamw["params"]} == {id(model.table.weight), id(model.layers[0].bias)}


def test_a_step_changes_all_trained_parameters_and_no_other() -> None:
    torch.manual_seed(0)
    model = Model()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = MuonAndAdamW([model])
    model.layers[0](model.table(torch.arange(5))).square().sum().backward()
    optimizer.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"table.weight", "layers.0.weight", "layers.0.bias"}
