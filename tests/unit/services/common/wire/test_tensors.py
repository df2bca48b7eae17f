import numpy as np
import pytest

from chroma.v1.tensor_pb2 import DATA_TYPE_BFLOAT16, DATA_TYPE_FLOAT32, Tensor
from services.common.errors import InvalidArgument
from services.common.wire import tensors


def test_float32_travels_unchanged() -> None:
    array = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    assert np.array_equal(tensors.from_message(tensors.to_message(array), shape=(3, 4), what="x"), array)


def test_bfloat16_travels_as_its_bit_pattern() -> None:
    bits = np.array([0x3F80, 0xBF80], dtype=np.uint16)  # 1.0, -1.0
    message = tensors.to_message(bits)
    assert message.dtype == DATA_TYPE_BFLOAT16
    assert message.data == b"\x80\x3f\x80\xbf"
    assert np.array_equal(tensors.from_message(message, shape=(2,), what="x"), bits)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (Tensor(shape=[2], data=bytes(8)), "expected dtype"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[3], data=bytes(12)), r"expected shape \[2\], got \[3\]"),
        (Tensor(dtype=DATA_TYPE_FLOAT32, shape=[2], data=bytes(4)), "expected 8 bytes of data, got 4"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(message: Tensor, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=f"hidden state: {complaint}"):
        tensors.from_message(message, shape=(2,), what="hidden state")
