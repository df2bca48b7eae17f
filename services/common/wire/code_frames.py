"""Conversion of code frames between messages and numpy arrays [T, 8]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chroma.v1.audio_pb2 import CodeFrames
from services.common.errors import InvalidArgument
from services.common.wire.audio import CODEBOOK_SIZE, CODEBOOKS

Codes = NDArray[np.uint16]
"""Code frames [T, 8], each code below the codec's codebook size, which is 2048 at most."""


def to_message(codes: Codes, first_frame: int) -> CodeFrames:
    """The message of code frames [T, 8] that start at `first_frame` of their stream."""
    return CodeFrames(first_frame=first_frame, codes=codes.reshape(-1).tolist())


def from_message(message: CodeFrames, *, next_frame: int) -> Codes:
    """The code frames [T, 8] of a message that must start at `next_frame`.

    A codec with smaller codebooks checks again, since their size is in its checkpoint.

    Raises:
        InvalidArgument: frames out of order, a broken frame, a code outside 0..2047.
    """
    if message.first_frame != next_frame:
        raise InvalidArgument(f"frames out of order: expected first_frame {next_frame}, got {message.first_frame}")
    if len(message.codes) % CODEBOOKS:
        raise InvalidArgument(f"expected a multiple of {CODEBOOKS} codes, got {len(message.codes)}")
    codes = np.array(message.codes, dtype=np.uint32).reshape(-1, CODEBOOKS)
    if (codes >= CODEBOOK_SIZE).any():
        frame, codebook = np.argwhere(codes >= CODEBOOK_SIZE)[0]
        raise InvalidArgument(
            f"expected codes in 0..{CODEBOOK_SIZE - 1}, got {codes[frame, codebook]} "
            f"in codebook {codebook} of frame {next_frame + frame}"
        )
    return codes.astype(np.uint16)
