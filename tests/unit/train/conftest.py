"""Modules beside the tests that they share, and one thread, as training has."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
