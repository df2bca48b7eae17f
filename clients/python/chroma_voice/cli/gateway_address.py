"""The gateway that a command calls: its address, the key and the encryption, as options of the command."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from chroma_voice.address import is_loopback
from chroma_voice.client import Client
from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.local.state import StateFolder

API_KEY = "CHROMA_API_KEY"
"""The variable that holds an API key. Other users of the machine can see an option, but not a variable."""

State = Annotated[
    Path,
    typer.Option(envvar="CHROMA_STATE", file_okay=False, help="Folder of the launcher: data, logs, endpoints."),
]
Gateway = Annotated[
    str, typer.Option(envvar="CHROMA_GATEWAY", help="host:port of a gateway. Default: the one `up` runs in --state.")
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        envvar="CHROMA_API_KEY_FILE",
        dir_okay=False,
        help=f"File with the API key for the gateway. Default: the key in {API_KEY}, or none.",
    ),
]
ApiKey = Annotated[
    str,
    typer.Option(
        "--api-key",
        help=f"API key for the gateway. Other users of this machine can see it: {API_KEY} and --api-key-file hide it.",
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt the connection to --gateway.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="PEM file with the authority of --gateway's certificate; it means --tls."
    ),
]
PlaintextKey = Annotated[
    bool,
    typer.Option("--plaintext-key", help="Send the key without --tls to another machine: the network can read it."),
]

DEFAULT_STATE = Path("state")
_SOCKET = re.compile(r"(unix|unix-abstract):.|(ipv4|ipv6):.|xds:")


@dataclass(frozen=True)
class GatewayAddress:
    """A gateway's address, and whether it is known to run on random weights."""

    address: str
    random_weights: bool


@dataclass(frozen=True)
class GatewayOptions:
    """The options that every command with a gateway has. `calls_gateway` gives them to a command."""

    gateway: Gateway = ""
    state: State = DEFAULT_STATE
    api_key: ApiKey = ""
    api_key_file: ApiKeyFile = None
    tls: Tls = False
    tls_ca: TlsCa = None
    plaintext_key: PlaintextKey = False

    def find(self) -> GatewayAddress:
        """Return the address. Raises `Unavailable` when no gateway is named and no launcher runs in `state`."""
        return find_gateway(self.gateway, self.state)

    def client(self) -> Client:
        """Return a client of the gateway. Call it where an event loop runs.

        Raises `InvalidArgument` when the key would go to another machine in plain text and no option allows it.
        """
        address, api_key = self.find().address, self.api_key.strip() or read_api_key(self.api_key_file)
        tls = self.tls or self.tls_ca is not None
        check_key_goes_safely(api_key, address, tls or self.plaintext_key)
        return Client(
            address,
            api_key=api_key,
            tls=tls,
            tls_ca=self.tls_ca.read_bytes() if self.tls_ca else None,
            allow_plaintext_key=self.plaintext_key,
        )


def calls_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `GatewayOptions`. It gets their values as the argument `gateway`."""
    own = [
        parameter
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "gateway"
    ]
    shared = inspect.signature(GatewayOptions, eval_str=True).parameters
    keyword = inspect.Parameter.KEYWORD_ONLY

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        command(gateway=GatewayOptions(**{name: values.pop(name) for name in shared}), **values)

    parameters = [parameter.replace(kind=keyword) for parameter in (*own, *shared.values())]
    with_options.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def find_gateway(gateway: str, state: Path) -> GatewayAddress:
    """Return `gateway` if it is set, else the gateway of the launcher in `state`.

    Raises `Unavailable` when no launcher runs there, and `InvalidArgument` for what is no address.
    """
    if gateway:
        check_address(gateway)
        return GatewayAddress(gateway, random_weights=False)
    endpoints = StateFolder(state).endpoints()
    return GatewayAddress(endpoints.gateway, endpoints.random_weights)


def check_key_goes_safely(api_key: str, address: str, is_allowed: bool) -> None:
    """Raise `InvalidArgument` for a key that would go to another machine in plain text, unless that `is_allowed`."""
    if api_key and not (is_allowed or is_loopback(address)):
        raise InvalidArgument(
            f"the API key would go to {address} in plain text, and that is not an address of this machine: give "
            "--tls, or --plaintext-key if every network on the way may read the key"
        )


def check_address(address: str) -> None:
    """Raise `InvalidArgument` for what cannot be the address of a gateway."""
    if _SOCKET.match(address):
        return
    host, colon, port = address.removeprefix("dns:").lstrip("/").rpartition(":")
    if "://" in address.removeprefix("dns:") or not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidArgument(f"expected an address of gRPC, host:port or unix:/path, got {address!r}")


def read_api_key(file: Path | None) -> str:
    """Return the key in `file`, else the one in CHROMA_API_KEY; empty when neither is there.

    Raises `FailedPrecondition` for a file that is not there, and `InvalidArgument` for one that holds no single key.
    """
    if file is None:
        return os.environ.get(API_KEY, "").strip()
    try:
        words = file.read_text(encoding="utf-8", errors="replace").split()
    except FileNotFoundError:
        raise FailedPrecondition(f"no file {file}: make a key with `chroma-voice key new` and write it there") from None
    if len(words) != 1:
        raise InvalidArgument(f"expected one API key in {file}, got {len(words)} words")
    return words[0]
