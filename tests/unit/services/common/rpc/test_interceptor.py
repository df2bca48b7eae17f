"""The handlers that interceptors make of other handlers."""

from __future__ import annotations

from typing import Any, cast

import grpc
import pytest

from services.common.rpc.interceptor import HANDLERS, Handler, MethodInterceptor, behaviour_of, with_behaviour


class Details:
    """What grpc tells of a call of /a/B."""

    method = "/a/B"
    invocation_metadata = ()


DETAILS = cast(grpc.HandlerCallDetails, Details())


class Renaming(MethodInterceptor):
    """Puts the method's name in the place of its behaviour."""

    def replaced(self, handler: Handler, method: str) -> Handler:
        return with_behaviour(handler, method)


@pytest.mark.parametrize("kind", HANDLERS)
async def test_a_handler_is_replaced_by_one_for_the_same_messages(kind: tuple[bool, bool]) -> None:
    handler = HANDLERS[kind]("behaviour", "read", "write")
    assert behaviour_of(handler) == "behaviour"

    async def found(details: Any) -> Handler:
        return handler

    replaced = await Renaming().intercept_service(found, DETAILS)
    assert replaced is not None
    assert behaviour_of(replaced) == "/a/B"
    assert (replaced.request_streaming, replaced.response_streaming) == kind
    assert (replaced.request_deserializer, replaced.response_serializer) == ("read", "write")


async def test_a_method_that_the_server_does_not_have_stays_unknown() -> None:
    async def missing(details: Any) -> None:
        return None

    assert await Renaming().intercept_service(missing, DETAILS) is None
