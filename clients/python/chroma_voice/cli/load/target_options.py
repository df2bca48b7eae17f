"""The server that a load calls, from the options of the command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from chroma_voice.bench.targets.grpc_target import GrpcTarget
from chroma_voice.bench.targets.realtime_target import RealtimeTarget, realtime_url
from chroma_voice.bench.targets.target import Target
from chroma_voice.cli.gateway_address import GatewayOptions, check_key_goes_safely, read_api_key
from chroma_voice.cli.load.options import LoadOptions
from chroma_voice.errors import NotFound
from chroma_voice.local.state import StateFolder


def choose_target(gateway: GatewayOptions, options: LoadOptions) -> Target:
    """Return the target of the options. Raises a `ChromaError` as `GatewayOptions.client` does."""
    if options.url or options.realtime:
        api_key = gateway.api_key.strip() or read_api_key(gateway.api_key_file)
        url = options.url or StateFolder(gateway.state).endpoints().page
        found = realtime_url(url, options.model, store=options.store)
        parts = urlsplit(found)
        check_key_goes_safely(api_key, parts.hostname or "", parts.scheme == "wss" or gateway.plaintext_key)
        tls_ca = gateway.tls_ca.read_text() if gateway.tls_ca else None
        return RealtimeTarget(found, api_key, tls_ca, beta=options.beta, silence_s=options.patience_s)
    return grpc_target(gateway, store=options.store, silence_s=options.patience_s)


def grpc_target(gateway: GatewayOptions, *, store: bool, silence_s: float) -> GrpcTarget:
    """Return the gateway of the options as a target. Raises a `ChromaError` as `GatewayOptions.client` does."""
    address = gateway.find().address
    api_key = gateway.api_key.strip() or read_api_key(gateway.api_key_file)
    tls = gateway.tls or gateway.tls_ca is not None
    check_key_goes_safely(api_key, address, tls or gateway.plaintext_key)
    return GrpcTarget(
        address,
        api_key,
        tls=tls,
        tls_ca=gateway.tls_ca.read_bytes() if gateway.tls_ca else None,
        allow_plaintext_key=gateway.plaintext_key,
        store=store,
        silence_s=silence_s,
    )


def default_metrics(gateway: GatewayOptions, options: LoadOptions) -> list[str]:
    """Return the page of metrics of the launcher's gateway, if that is what is called."""
    if options.url or gateway.gateway:
        return []
    return [StateFolder(gateway.state).endpoints().metrics["gateway"]]


def probe(target: Target) -> list[str]:
    """Return the voices of the target. Raises a `ChromaError` that says why no conversation can be held."""
    return asyncio.run(target.probe())


def voices_to_use(wanted: Sequence[str], found: Sequence[str]) -> list[str]:
    """Return the voices to mix: the wanted ones, else those that were found, else the server's own choice.

    Raises `NotFound` for a voice that the server does not list.
    """
    missing = [voice for voice in wanted if found and voice not in found]
    if missing:
        raise NotFound(f"no voice {missing[0]!r}; there are {', '.join(found)}")
    return list(wanted or found or [""])
