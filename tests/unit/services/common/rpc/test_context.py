"""The turn, session and tenant of a call, between context variables and metadata."""

from __future__ import annotations

from contextvars import copy_context

from services.common.rpc import context


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
