"""The address of the gateway that a command talks to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from chroma_voice.local.state import StateFolder

State = Annotated[Path, typer.Option(envvar="CHROMA_STATE", help="Folder of the launcher: data, logs, endpoints.")]
Gateway = Annotated[
    str, typer.Option(envvar="CHROMA_GATEWAY", help="host:port of a gateway. Default: the one `up` runs in --state.")
]

DEFAULT_STATE = Path("state")


@dataclass(frozen=True)
class GatewayAddress:
    """A gateway's host:port, and whether it is known to run on random weights."""

    address: str
    random_weights: bool


def find_gateway(gateway: str, state: Path) -> GatewayAddress:
    """Return `gateway` if it is set, else the gateway of the launcher in `state`.

    Raises `Unavailable` when no launcher runs there.
    """
    if gateway:
        return GatewayAddress(gateway, random_weights=False)
    endpoints = StateFolder(state).endpoints()
    return GatewayAddress(endpoints.gateway, endpoints.random_weights)
