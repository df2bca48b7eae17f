"""The name of a voice prompt: what `voice_fingerprint` in speech_gen.proto is computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def voice_fingerprint(codes: ArrayLike, token_ids: Sequence[int], checkpoint_fingerprint: str) -> str:
    """32 hex digits that name a voice under one checkpoint.

    Args:
        codes: the recording's code frames [T, 8] in any shape of that order, each code 0 to 65535.
        token_ids: the token ids of its transcript.
        checkpoint_fingerprint: identifies the checkpoint that turns both into a voice prompt.
    """
    digest = hashlib.sha256(checkpoint_fingerprint.encode())
    digest.update(b"|" + np.asarray(codes).astype("<u2").tobytes())
    digest.update(b"|" + np.asarray(token_ids, dtype="<u4").tobytes())
    return digest.hexdigest()[:32]
