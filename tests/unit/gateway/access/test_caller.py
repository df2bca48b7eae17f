"""Callers and their scopes."""

from __future__ import annotations

import pytest

from gateway.access.caller import Caller, Credential, Scope
from services.common.errors import PermissionDenied


def test_a_caller_may_do_what_its_scopes_name_and_nothing_else() -> None:
    caller = Caller("acme", "key-1", frozenset({Scope.TALK}))
    caller.require(Scope.TALK)
    with pytest.raises(PermissionDenied, match=r"'key-1' lacks the scope 'voices'"):
        caller.require(Scope.VOICES)


def test_the_holder_of_a_client_secret_does_not_learn_the_key_behind_it() -> None:
    caller = Caller("acme", "key-1", frozenset({Scope.TALK}), credential=Credential.CLIENT_SECRET)
    with pytest.raises(PermissionDenied, match=r"^a client secret has not the scope 'voices' or 'admin'$"):
        caller.require(Scope.VOICES, Scope.ADMIN)


@pytest.mark.parametrize(
    ("peer", "share"),
    [
        ("", "anonymous"),
        ("unix", "anonymous"),
        ("127.0.0.1", "anonymous"),
        ("::1", "anonymous"),
        ("10.0.0.1", "anonymous@10.0.0.1"),
        ("2001:db8::1", "anonymous@2001:db8::1"),
    ],
)
def test_a_caller_without_a_key_shares_with_its_address_and_one_with_a_key_with_the_key(peer: str, share: str) -> None:
    assert Caller("acme", peer=peer).share == share
    assert Caller("acme", "ci", peer=peer).share == "ci"
