"""How a Realtime connection begins: its session, its model and its first settings."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.caller import Caller
from gateway.api.catalog import MODEL
from gateway.api.errors import BadParameter
from gateway.api.realtime.opening import again, open_connection, open_session
from gateway.api.realtime.session.update import SessionIn
from gateway.conversation.backend import Backend
from services.common.errors import NotFound

_CALLER = Caller("default")


class _Transport:
    """A client that is not there yet."""

    speaker = None

    async def receive(self) -> str | bytes | None:
        raise AssertionError("nothing is read before the connection runs")

    async def send(self, event: dict[str, Any]) -> None:
        raise AssertionError("nothing is sent before the connection runs")


async def _open(backend: Backend, query: dict[str, str], **given: Any) -> tuple[dict[str, Any], str]:
    """The settings with which a connection begins, and the id of its session."""
    update = SessionIn.model_validate(given)
    connection, session_id = await open_connection(_Transport(), backend, _CALLER, update, query, beta=False)
    return connection._settings.session.to_dict(60.0), session_id


async def test_a_connection_begins_with_a_stored_session_of_the_default_voice(backend: Backend) -> None:
    session, session_id = await _open(backend, {})
    assert (session["id"], session["model"], session["type"]) == (session_id, MODEL, "realtime")
    assert session["audio"]["output"]["voice"] == "ada"
    assert (await backend.sessions.load("default", session_id)).config.voice_id == "ada"


async def test_the_given_settings_are_in_the_stored_session(backend: Backend) -> None:
    session, session_id = await _open(backend, {"model": "any"}, instructions="Rhyme.", voice="bob")
    assert (session["model"], session["instructions"]) == ("any", "Rhyme.")
    config = (await backend.sessions.load("default", session_id)).config
    assert (config.voice_id, config.system_prompt) == ("bob", "Rhyme.")


async def test_a_session_goes_on_by_its_id(backend: Backend) -> None:
    _, session_id = await _open(backend, {}, instructions="Rhyme.")
    session, same = await _open(backend, {"session_id": session_id})
    assert (same, session["instructions"]) == (session_id, "Rhyme.")
    with pytest.raises(NotFound):
        await _open(backend, {"session_id": "session-unknown"})


@pytest.mark.parametrize(
    ("query", "given"), [({"store": "false"}, {}), ({"store": "NO"}, {}), ({"store": "0"}, {}), ({}, {"store": False})]
)
async def test_a_connection_that_is_not_to_be_stored_has_no_session_id(
    backend: Backend, query: dict[str, str], given: dict[str, Any]
) -> None:
    session, session_id = await _open(backend, query, **given)
    assert (session_id, session["id"].startswith("unstored-")) == ("", True)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"store": "perhaps"}, "store"),
        ({"model": "m" * 1_000}, "model"),
        ({"store": "0", "session_id": "s"}, "session_id"),
    ],
)
async def test_a_query_that_is_wrong_is_named(backend: Backend, query: dict[str, str], param: str) -> None:
    with pytest.raises(BadParameter) as refused:
        await _open(backend, query)
    assert refused.value.param == param


async def test_a_stored_session_cannot_go_on_unstored(backend: Backend) -> None:
    with pytest.raises(BadParameter) as refused:
        await open_session(backend, _CALLER, SessionIn(store=False), {"session_id": "session-1"})
    assert refused.value.param == "session_id"


async def test_the_query_may_ask_for_a_transcription_session(backend: Backend) -> None:
    with pytest.raises(BadParameter) as refused:  # this server does not transcribe
        await _open(backend, {"intent": "transcription"})
    assert refused.value.param == "session.type"
    session, _ = await _open(backend, {"intent": "transcription"}, type="realtime")
    assert session["type"] == "realtime", "the settings say more than the query"


def test_a_client_that_is_to_connect_again_reads_the_id_of_its_session() -> None:
    assert again("session-1") == "connect again with ?session_id=session-1"
    assert again("") == "connect again"
