"""The interceptor that lets only callers with a certificate of a stated name call this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from inspect import iscoroutinefunction
from typing import Any

from grpc import aio

from services.common.errors import PermissionDenied
from services.common.rpc.interceptor import Handler, MethodInterceptor, behaviour_of, with_behaviour

_OPEN = "/grpc.health.v1.Health/"
"""Methods that every caller with a certificate of the authority may use."""


class CallerNameInterceptor(MethodInterceptor):
    """Refuses a call with PERMISSION_DENIED unless a DNS name of the caller's certificate is one of `names`.

    A certificate authority that signs for all processes proves only that a caller is one of them. With the names, the
    certificate of the codec does not open the reasoner.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def replaced(self, handler: Handler, method: str) -> Handler:
        if method.startswith(_OPEN):
            return handler
        return with_behaviour(handler, self._checked(behaviour_of(handler)))

    def _checked(self, behaviour: Any) -> Any:
        async def awaited(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            self._check(context)
            return await behaviour(request, context)

        def yielded(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            self._check(context)
            return behaviour(request, context)

        return awaited if iscoroutinefunction(behaviour) else yielded

    def _check(self, context: aio.ServicerContext[Any, Any]) -> None:
        shown = [name.decode(errors="replace") for name in context.auth_context().get(_NAMES, ())]
        if self._names.isdisjoint(shown):
            raise PermissionDenied(f"the certificate of the caller is for {', '.join(shown) or 'no name'}, not for us")


_NAMES = "x509_subject_alternative_name"
"""Where gRPC keeps the names of the caller's certificate."""
