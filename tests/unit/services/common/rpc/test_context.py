"""The turn, session and tenant of a call, between context variables and metadata."""

from __future__ import annotations

from contextvars import copy_context

import pytest

from services.common.rpc import context

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_what_one_process_sends_the_next_one_adopts() -> None:
    def caller() -> context.Metadata:
        context.turn_id.set("turn-1")
        context.tenant.set("acme")
        return context.outgoing_metadata()

    def callee(metadata: context.Metadata) -> tuple[str, str, str]:
        context.adopt_metadata(metadata)
        return context.turn_id.get(), context.session_id.get(), context.tenant.get()

    metadata = copy_context().run(caller)
    assert metadata == (("chroma-turn-id", "turn-1"), ("chroma-tenant", "acme"))
    assert copy_context().run(callee, metadata) == ("turn-1", "", "acme")


def test_what_the_metadata_lacks_or_holds_as_bytes_is_cleared() -> None:
    def adopt() -> tuple[str, str]:
        context.turn_id.set("of the call before")
        context.adopt_metadata([("chroma-session-id", b"bytes")])
        return context.turn_id.get(), context.session_id.get()

    assert copy_context().run(adopt) == ("", "")


def test_from_the_public_only_a_trace_is_adopted() -> None:
    def adopt() -> tuple[str, ...]:
        context.key_id.set("of the call before")
        ids = [(key, "made-up") for key in context.METADATA_KEYS if key != "traceparent"]
        context.adopt_metadata([*ids, ("traceparent", TRACE)], public=True)
        values = [variable.get() for variable in context.METADATA_KEYS.values()]
        return (*values, context.key_id.get())

    assert copy_context().run(adopt) == ("", "", "", TRACE, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "made-up",
        TRACE.upper(),
        TRACE + "\n",
        TRACE[:-1],
        "01" + TRACE[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_from_the_public_a_malformed_trace_is_not_adopted(text: str) -> None:
    def adopt() -> str:
        context.adopt_metadata([("traceparent", text)], public=True)
        return context.traceparent.get()

    assert copy_context().run(adopt) == ""


def test_the_id_of_a_key_is_not_sent_to_other_processes() -> None:
    def send() -> context.Metadata:
        context.key_id.set("server")
        return context.outgoing_metadata()

    assert copy_context().run(send) == ()
