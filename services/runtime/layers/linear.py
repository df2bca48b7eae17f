"""A frozen linear layer whose weight is stored in the order that its device reads fastest.

On the CPU this is oneDNN's blocked layout, packed once at load. With the 1 to 48 rows of a step, the product is faster
than with the row-major weight, in float32 and in bfloat16. A single row is repeated four times: oneDNN's kernel for
four rows reads the weight faster. On other devices the weight stays as it is. Weights in 8 and 4 bits have products of
their own (quantized_cpu.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from services.common.errors import FailedPrecondition
from services.runtime.checkpoint.quantized import QuantizedWeight, WeightFormat, quantize
from services.runtime.layers.kernel_weight import KernelWeight
from services.runtime.layers.quantized_cpu import check_cpu_product, cpu_product
from services.runtime.layers.quantized_cuda import QuantizedProduct

_PACKED_FOR_ROWS = 16
_MIN_ROWS = 4


class Linear:
    """`x [..., I] -> x @ weight.T + bias [..., O]` with `weight [O, I]` and `bias [O]` or None.

    `dtype` is that of the inputs. It is needed only with a quantised weight.
    """

    __slots__ = ("bias", "in_features", "out_features", "packed", "product", "weight")

    def __init__(
        self, weight: Tensor | QuantizedWeight, bias: Tensor | None = None, *, dtype: torch.dtype = torch.float32
    ) -> None:
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self.product: Callable[[Tensor, Tensor | None], Tensor] | None = None
        """The product with a quantised weight; `weight` is None then."""
        if isinstance(weight, QuantizedWeight):
            self.packed = True
            self.weight: Tensor | None = None
            self.product = quantized_product(weight, dtype)
        else:
            self.packed = _can_pack(weight)
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS) if self.packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        if self.product is not None:
            if x.ndim == 2:
                return self.product(x, self.bias)
            return self.product(x.reshape(-1, self.in_features), self.bias).unflatten(0, x.shape[:-1])
        assert self.weight is not None
        if self.packed:
            if x.shape[0] == 1 and x.ndim == 2:
                return self._packed(x.expand(_MIN_ROWS, -1))[:1]
            return self._packed(x)
        return F.linear(x, self.weight, self.bias)

    @property
    def kernel_weight(self) -> KernelWeight:
        """Weight and bias as CUDA kernels read them. They share this layer's memory.

        Raises `FailedPrecondition` when kernels cannot read them.
        """
        if isinstance(self.product, QuantizedProduct) and self.product.weight is not None:
            return replace(self.product.weight, bias=self.bias)
        if self.packed or self.weight is None:
            raise FailedPrecondition("the weight of a linear layer is not in the layout of the kernels")
        return KernelWeight(self.weight, self.bias)

    def _packed(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def quantized_product(weight: QuantizedWeight, dtype: torch.dtype) -> Callable[[Tensor, Tensor | None], Tensor]:
    """The product of inputs [R, I] in `dtype` with a quantised weight, and a bias [O] or None, on its device.

    Raises `FailedPrecondition` when the device has none.
    """
    if weight.device.type == "cpu":
        return cpu_product(weight)
    if weight.device.type == "cuda":
        return QuantizedProduct(weight, dtype)
    raise FailedPrecondition(
        f"weights in {weight.bits} bits cannot be used on {weight.device}: set CHROMA_WEIGHTS to as-stored"
    )


def check_product(weights: WeightFormat, dtype: torch.dtype, device: torch.device | str) -> None:
    """Raises `FailedPrecondition` when the device cannot compute in `dtype` with weights in this format."""
    if weights == "as-stored":
        return
    bits = 8 if weights == "int8" else 4
    if torch.device(device).type == "cpu":
        check_cpu_product(bits, dtype)
    else:
        quantized_product(quantize(torch.ones(64, 64), bits).to(device), dtype)


def _can_pack(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
