"""One thread for all tests of training, like in training itself."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
