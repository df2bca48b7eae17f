"""A service refuses to start where its weights cannot fit, as the launcher does for all services together."""

from __future__ import annotations

import logging
from pathlib import Path

from chroma_voice.errors import FailedPrecondition as DoesNotFit
from chroma_voice.local import memory, weights
from services.common.errors import FailedPrecondition

log = logging.getLogger(__name__)

_WAYS_OUT = "CHROMA_WEIGHTS=int8 or int4, CHROMA_DTYPE=bfloat16, another CHROMA_DEVICE, or a smaller checkpoint"
_CODEC_WAYS_OUT = "another CHROMA_DEVICE, or a smaller checkpoint"


def check_memory(service: str, checkpoint: Path, *, dtype: str, weights_format: str, device: str) -> None:
    """Log what the weights of a service need and what its device has.

    Raises `FailedPrecondition`, with what would work, when they cannot fit: they need more than all memory of this
    machine or container, or more than the free memory of a GPU.
    """
    parameters = weights.count_parameters(checkpoint).get(service)
    if parameters is None:
        return
    embeddings = weights.count_embeddings(checkpoint).get(service, 0)
    needed = {service: weights.Weights(parameters, dtype, weights_format, embeddings)}
    ways_out = _CODEC_WAYS_OUT if service == "codec" else _WAYS_OUT
    try:
        for line in memory.describe(needed, {service: device}, ways_out=ways_out):
            log.warning(line) if line.startswith("warning") else log.info(line)
    except DoesNotFit as error:
        raise FailedPrecondition(error.message) from None
