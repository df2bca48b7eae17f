"""Encryption of values in the store, by keys of the operator (AES-256-GCM).

    0xFF "sealed" 0x01 | length of the key's id (1 byte) | id of the key | nonce (12 bytes) | ciphertext and tag

The first key encrypts. All keys decrypt, so that a key can be replaced: put the new one first, and remove the old one
when all values under it were written again or have expired. The place of a value (its key in the store and its field)
is authenticated with it, so that a value moved to another place does not decrypt. Without keys, values are plain. A
plain value is read as it is, also with keys: values that were written before there was a key stay readable.

Ids, counts and times stay plain, because the store's scripts read them. A key should encrypt fewer than 2^32 values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import FailedPrecondition

_SEALED = b"\xffsealed\x01"
"""How an encrypted value begins. No UTF-8 text, protobuf of ours or code frame begins so."""
_NONCE_BYTES = 12


class Cipher:
    """Encrypts and decrypts values. Without keys it encrypts nothing."""

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        """`keys` maps ids to keys of 32 bytes; the first one encrypts."""
        self._keys = {key_id: AESGCM(key) for key_id, key in (keys or {}).items()}
        self._first = next(iter(self._keys), "")

    def seal(self, place: str, value: bytes) -> bytes:
        """Return the value as the store keeps it. `place` names its key and field there."""
        if not self._first:
            return value
        nonce = os.urandom(_NONCE_BYTES)
        key_id = self._first.encode()
        sealed = self._keys[self._first].encrypt(nonce, value, place.encode())
        return _SEALED + bytes([len(key_id)]) + key_id + nonce + sealed

    def unseal(self, place: str, stored: bytes) -> bytes:
        """Return the value that `seal` stored at this place.

        Raises FailedPrecondition when its key is missing or is another one, or the value was changed or moved.
        """
        if not stored.startswith(_SEALED):
            return stored
        start = len(_SEALED) + 1
        end = start + stored[start - 1] if len(stored) >= start else start
        key_id = stored[start:end].decode("ascii", "replace")
        key = self._keys.get(key_id)
        if key is None:
            raise FailedPrecondition(
                f"the store holds values under the key {key_id!r}, which is not among CHROMA_STORE_KEYS"
            )
        try:
            return key.decrypt(stored[end : end + _NONCE_BYTES], stored[end + _NONCE_BYTES :], place.encode())
        except (InvalidTag, ValueError):
            raise FailedPrecondition(
                f"a value in the store does not decrypt: the key {key_id!r} of CHROMA_STORE_KEYS is another one, "
                "or the value was changed"
            ) from None
