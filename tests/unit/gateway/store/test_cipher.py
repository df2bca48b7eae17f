"""Values under keys: what decrypts, and what is refused."""

from __future__ import annotations

import pytest

from gateway.store.cipher import Cipher
from services.common.errors import FailedPrecondition

ONE, TWO = bytes(range(32)), bytes(32)


def test_a_sealed_value_is_read_at_its_place_and_does_not_show_its_content() -> None:
    cipher = Cipher({"k1": ONE})
    sealed = cipher.seal("here", b"secret words")
    assert b"secret" not in sealed
    assert cipher.unseal("here", sealed) == b"secret words"
    assert cipher.seal("here", b"secret words") != sealed


def test_a_value_that_was_moved_or_changed_is_refused() -> None:
    cipher = Cipher({"k1": ONE})
    sealed = cipher.seal("here", b"secret words")
    changed = bytes([*sealed[:-1], sealed[-1] ^ 1])
    for place, value in (("there", sealed), ("here", changed), ("here", sealed[:-20]), ("here", sealed[:12])):
        with pytest.raises(FailedPrecondition, match="does not decrypt"):
            cipher.unseal(place, value)


def test_a_new_first_key_encrypts_and_the_old_one_still_decrypts() -> None:
    old = Cipher({"k1": ONE}).seal("here", b"old")
    cipher = Cipher({"k2": TWO, "k1": ONE})
    assert cipher.unseal("here", old) == b"old"
    new = cipher.seal("here", b"new")
    assert Cipher({"k2": TWO}).unseal("here", new) == b"new"
    with pytest.raises(FailedPrecondition, match="'k1', which is not among CHROMA_STORE_KEYS"):
        Cipher({"k2": TWO}).unseal("here", old)
    with pytest.raises(FailedPrecondition, match="'k1', which is not among"):
        Cipher().unseal("here", old)
    with pytest.raises(FailedPrecondition, match="is another one"):
        Cipher({"k1": TWO}).unseal("here", old)


def test_a_plain_value_is_read_as_it_is() -> None:
    assert Cipher().seal("here", b"plain") == b"plain"
    for cipher in (Cipher(), Cipher({"k1": ONE})):
        assert cipher.unseal("here", b"plain") == b"plain"
        assert cipher.unseal("here", b"") == b""
