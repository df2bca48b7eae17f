"""Calls of servicers without a server: the caller is of the default tenant."""

from __future__ import annotations

from contextvars import ContextVar

import pytest

from gateway.access.caller import Caller
from gateway.api import auth

_CALLER = Caller("default")


@pytest.fixture(autouse=True)
def called_by_the_default_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call comes from the tenant `default`."""
    monkeypatch.setattr(auth, "_call_caller", ContextVar("call_caller", default=_CALLER))
