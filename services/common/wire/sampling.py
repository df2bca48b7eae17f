"""The wire's message `Sampling` as `SamplingParams`."""

from __future__ import annotations

from chroma.v1.generation_pb2 import Sampling
from services.common.sampling import SamplingParams

_DEFAULTS = SamplingParams()


def from_message(message: Sampling, defaults: SamplingParams = _DEFAULTS) -> SamplingParams:
    """`defaults` changed by the fields that `message` sets.

    Raises:
        InvalidArgument: a value is out of range.
    """
    return defaults.changed(**{field.name: value for field, value in message.ListFields()})
