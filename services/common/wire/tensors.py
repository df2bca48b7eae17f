"""Tensors between the wire and numpy. numpy has no bfloat16: such a tensor is its 16-bit patterns in uint16."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chroma.v1.tensor_pb2 import DATA_TYPE_BFLOAT16, DATA_TYPE_FLOAT32, DataType, Tensor
from services.common.errors import InvalidArgument

Raw = NDArray[np.float32] | NDArray[np.uint16]
"""float32 values, or bfloat16 bit patterns."""

_NUMPY: dict[DataType.ValueType, Any] = {
    DATA_TYPE_FLOAT32: np.dtype("<f4"),
    DATA_TYPE_BFLOAT16: np.dtype("<u2"),
}


def to_message(array: Raw) -> Tensor:
    """The message of a float32 array, or of bfloat16 bit patterns in uint16."""
    data_type = DATA_TYPE_BFLOAT16 if array.dtype == np.uint16 else DATA_TYPE_FLOAT32
    return Tensor(dtype=data_type, shape=array.shape, data=np.ascontiguousarray(array).tobytes())


def from_message(message: Tensor, *, shape: tuple[int, ...], what: str) -> Raw:
    """The array of a message: float32 values, or bfloat16 bit patterns as uint16.

    Args:
        shape: the shape expected.
        what: names the tensor in errors.

    Raises:
        InvalidArgument: another shape, an unknown dtype, or a length that does not fit them.
    """
    if message.dtype not in _NUMPY:
        raise InvalidArgument(f"{what}: expected dtype float32 or bfloat16, got {_name(message.dtype)}")
    if tuple(message.shape) != shape:
        raise InvalidArgument(f"{what}: expected shape {list(shape)}, got {list(message.shape)}")
    dtype = _NUMPY[message.dtype]
    expected_bytes = math.prod(shape) * dtype.itemsize
    if len(message.data) != expected_bytes:
        raise InvalidArgument(f"{what}: expected {expected_bytes} bytes of data, got {len(message.data)}")
    array: Any = np.frombuffer(message.data, dtype=dtype)
    return array.reshape(shape)


def _name(data_type: DataType.ValueType) -> str:
    try:
        return DataType.Name(data_type)
    except ValueError:
        return f"number {data_type}"
