"""G.711 against the tables that telephones use."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from gateway.audio.g711 import Law, decode_g711, encode_g711

ALL_SAMPLES = np.arange(-32_768, 32_768).astype("<i2").tobytes()
ALL_BYTES = bytes(range(256))


@pytest.mark.parametrize(
    ("law", "decoded", "encoded"),
    [  # SHA-256 of what CPython 3.11's `audioop` makes of all bytes and of all samples
        (
            "mu",
            "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827",
            "81d633c9e6972a18c74a58720b96cb8ca0bdd096d4060b646dd708c3b846019a",
        ),
        (
            "a",
            "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174",
            "38488f6fd710f4686360edc4d38639f96c491595ef93f8eb8d62d5e07ca6ce7b",
        ),
    ],
)
def test_every_byte_and_every_sample_is_as_the_reference_has_it(law: Law, decoded: str, encoded: str) -> None:
    assert hashlib.sha256(decode_g711(ALL_BYTES, law)).hexdigest() == decoded
    assert hashlib.sha256(encode_g711(ALL_SAMPLES, law)).hexdigest() == encoded


@pytest.mark.parametrize("law", ["mu", "a"])
def test_a_decoded_byte_encodes_to_a_byte_of_the_same_sample(law: Law) -> None:
    decoded = decode_g711(ALL_BYTES, law)
    assert decode_g711(encode_g711(decoded, law), law) == decoded


@pytest.mark.parametrize("law", ["mu", "a"])
def test_no_bytes_are_no_samples(law: Law) -> None:
    assert decode_g711(b"", law) == b""
    assert encode_g711(b"", law) == b""
