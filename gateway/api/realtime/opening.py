"""The beginning of a Realtime connection, whatever carries its events: its session and its first settings."""

from __future__ import annotations

from collections.abc import Mapping

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.caller import Caller
from gateway.api.catalog import MODEL
from gateway.api.errors import BadParameter
from gateway.api.fields import MAX_NAME_CHARS
from gateway.api.realtime.connection import Connection
from gateway.api.realtime.events.transport import Transport
from gateway.api.realtime.session.update import SessionIn
from gateway.conversation.backend import Backend
from gateway.store.sessions import Session
from services.common.rpc import context


async def open_connection(
    transport: Transport, backend: Backend, caller: Caller, given: SessionIn, query: Mapping[str, str], *, beta: bool
) -> tuple[Connection, str]:
    """Open a connection, for which the caller has a seat. Returns it and the id of its session; empty: not stored.

    `given` holds its first settings. `query` is that of the request: `model` is any name; `session_id` continues a
    session, also one of another gateway; `store=false` keeps nothing of the session; `intent=transcription` begins a
    transcription session.
    """
    session = await open_session(backend, caller, given, query)
    model = _model(query.get("model") or given.model or "")
    connection = Connection(transport, backend, caller, session, model, beta=beta)
    if given.type is None and query.get("intent") == "transcription":
        given = given.model_copy(update={"type": "transcription"})
    await connection.configure(given)
    return connection, session.session_id


def again(session_id: str) -> str:
    """What a client reads that is to connect once more."""
    return f"connect again with ?session_id={session_id}" if session_id else "connect again"


def _model(name: str) -> str:
    if len(name) > MAX_NAME_CHARS:
        raise BadParameter("model", f"expected a model name of at most {MAX_NAME_CHARS} characters, got {len(name)}")
    return name or MODEL


def _is_stored(store: str) -> bool:
    """Read the `store` of a query. Other values are refused: they may be meant to say that nothing is to be kept."""
    if store.lower() in ("", "true", "1", "yes"):
        return True
    if store.lower() in ("false", "0", "no"):
        return False
    raise BadParameter("store", f"expected true or false, got {store[:20]!r}")


async def open_session(backend: Backend, caller: Caller, given: SessionIn, query: Mapping[str, str]) -> Session:
    """Create a session, or load the one that is to be continued: see `open_connection`."""
    store = given.store is not False and _is_stored(query.get("store") or "")
    session = await _session(backend, caller, query.get("session_id", ""), store=store)
    context.session_id.set(session.session_id)
    return session


async def _session(backend: Backend, caller: Caller, session_id: str, *, store: bool) -> Session:
    if session_id and not store:
        raise BadParameter("session_id", "a stored session cannot be continued with `store` set to false")
    if session_id:
        return await backend.sessions.load(caller.tenant, session_id)
    voice_id = await backend.default_voice(caller.tenant)
    return await backend.create_session(caller, SessionConfig(voice_id=voice_id), store=store)
