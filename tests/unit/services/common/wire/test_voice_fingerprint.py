"""The name of a voice prompt, as speech_gen.proto states it."""

from __future__ import annotations

import hashlib

import numpy as np

from services.common.wire.voice_fingerprint import voice_fingerprint

CODES = np.arange(24).reshape(3, 8)


def test_the_fingerprint_is_the_hash_that_the_proto_states() -> None:
    content = b"0123456789abcdef|" + bytes([1, 0, 2, 1]) + b"|" + bytes([7, 0, 0, 0])
    assert voice_fingerprint([1, 258], [7], "0123456789abcdef") == hashlib.sha256(content).hexdigest()[:32]


def test_the_integer_type_and_the_shape_of_the_codes_do_not_matter() -> None:
    name = voice_fingerprint(CODES, [7, 9], "one")
    assert name == voice_fingerprint(CODES.astype(np.uint16), (7, 9), "one")
    assert name == voice_fingerprint(CODES.reshape(-1).tolist(), [7, 9], "one")


def test_codes_transcript_and_checkpoint_each_change_the_fingerprint() -> None:
    names = {
        voice_fingerprint(CODES, [7, 9], "one"),
        voice_fingerprint(CODES, [7, 9], "other"),
        voice_fingerprint(CODES + 1, [7, 9], "one"),
        voice_fingerprint(CODES, [7], "one"),
        voice_fingerprint(CODES, [9, 7], "one"),
    }
    assert len(names) == 5
