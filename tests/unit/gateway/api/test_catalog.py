"""Which voice a client gets for the name that it sends."""

from __future__ import annotations

import pytest

from gateway.api.catalog import choose_voice
from gateway.conversation.backend import Backend
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound


@pytest.mark.parametrize(
    ("named", "chosen"), [("eve", "eve"), ("", "ada"), ("alloy", "ada")], ids=["enrolled", "no name", "OpenAI's"]
)
async def test_a_name_chooses_a_voice(backend: Backend, named: str, chosen: str) -> None:
    assert await choose_voice(backend, "default", named) == chosen


async def test_an_unknown_voice_is_not_found_and_an_impossible_id_is_invalid(backend: Backend) -> None:
    with pytest.raises(NotFound, match="'zoe'"):
        await choose_voice(backend, "default", "zoe")
    with pytest.raises(InvalidArgument):
        await choose_voice(backend, "default", "No Such Id")


async def test_a_tenant_without_voices_has_no_default_voice(backend: Backend) -> None:
    with pytest.raises(FailedPrecondition, match="no voice is enrolled"):
        await choose_voice(backend, "other", "alloy")
