"""What the rows of a prompt are, as integers, so that equal beginnings are found
(services/runtime/kvcache/prefix_cache.py).

A token's row is its id. A recording's row is the digest of all its samples with the row's place: the clamp of the mel
ties every row to the whole recording, and to nothing else.
"""

from __future__ import annotations

from hashlib import blake2b

import torch

_PLACE_BITS = 32
"""Token ids and places are smaller than this many bits; a digest stands above them."""


class ClipDigest:
    """The digest of a recording, fed piece by piece: float32 [S] at 16 kHz."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def add(self, pcm: torch.Tensor) -> None:
        """More samples."""
        self._hash.update(pcm.contiguous().numpy().data)

    def identities(self, rows: int) -> list[int]:
        """Of the recording's `rows` rows, in order."""
        first = int.from_bytes(self._hash.digest()) << _PLACE_BITS
        return list(range(first, first + rows))
