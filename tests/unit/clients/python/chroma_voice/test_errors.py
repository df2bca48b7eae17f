from __future__ import annotations

import grpc
import pytest

from chroma_voice import errors
from services.common import errors as server_errors


@pytest.mark.parametrize("status", sorted(errors.LEAVES))
def test_every_leaf_is_reached_by_its_status_and_its_code(status: str) -> None:
    code = grpc.StatusCode[status].value[0]
    for error in (errors.from_status(status, "why"), errors.from_code(code, "why", retry_after_s=2.0)):
        assert type(error) is errors.LEAVES[status]
        assert (error.status, error.message, str(error)) == (status, "why", "why")


def test_status_without_a_leaf_is_kept_on_the_root() -> None:
    error = errors.from_code(grpc.StatusCode.DATA_LOSS.value[0], "gone")
    assert (type(error), error.status) == (errors.ChromaError, "DATA_LOSS")
    assert errors.from_code(99, "?").status == "UNKNOWN"


def test_client_knows_every_status_the_servers_say() -> None:
    leaves = (leaf for leaf in server_errors.ChromaError.__subclasses__() if leaf.__module__ == server_errors.__name__)
    assert {leaf.status for leaf in leaves} == set(errors.LEAVES)


def test_a_write_that_meets_the_end_of_its_call_is_unavailable_and_not_a_bug_of_the_server() -> None:
    nothing = grpc.aio.Metadata()
    lost = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "Internal error from Core")
    bug = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "failed unexpectedly")
    assert isinstance(errors.from_rpc_error(lost), errors.Unavailable)
    assert type(errors.from_rpc_error(bug)) is errors.ChromaError


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
            "host: Connection refused",
            "nothing answers at 127.0.0.1:1: Connection refused",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: unix:/tmp/grpc.sock: connect failed: "
            "addr: unix:/tmp/grpc.sock error: No such file or directory",
            "nothing answers at unix:/tmp/grpc.sock: No such file or directory",
        ),
        (
            "errors resolving nowhere:80: [field:hostname lookup error:address lookup failed for nowhere:80: "
            "Domain name not found]",
            "nothing answers at nowhere:80: Domain name not found",
        ),
        ("the gateway drains", "the gateway drains"),
    ],
)
def test_a_connection_that_cannot_be_opened_names_the_address_and_the_reason(details: str, message: str) -> None:
    nothing = grpc.aio.Metadata()
    error = errors.from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details))
    assert (type(error), error.message) == (errors.Unavailable, message)
