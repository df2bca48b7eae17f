"""Whether a gateway that this machine starts can be called from other machines, and what it asks of its callers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chroma_voice.address import is_loopback
from chroma_voice.errors import FailedPrecondition
from chroma_voice.local.certificate import host_names

_IDENTITY = ("api_keys_file", "api_keys", "oidc_issuer")
"""The gateway's settings that make it ask for a key or a token."""
_TRUSTED = "trusted_network"
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_YES = ("1", "true", "yes", "on", "y", "t")


def asks_for_keys(environment: Mapping[str, str]) -> bool:
    """Return whether a gateway with this environment asks its callers for a key or a token."""
    return any(_setting(environment, name).strip() not in ("", "{}") for name in _IDENTITY)


def check_exposure(environment: Mapping[str, str], *addresses: str) -> None:
    """Raise `FailedPrecondition` when other machines could reach one of these addresses and would need no key."""
    if asks_for_keys(environment) or _setting(environment, _TRUSTED).lower() in _YES:
        return
    for address in addresses:
        if address and not is_loopback(address):
            raise FailedPrecondition(
                f"other machines can reach {address}, and callers would need no key: make keys with `chroma-voice key "
                "new --id ID --tenant default` and give their file with --keys keys.json, or say --trusted-network if "
                "every machine that can reach the address may use and delete all voices and sessions"
            )


def names_for_pages(environment: Mapping[str, str], http: str) -> list[str]:
    """Return the host names under which browsers may open the page at the address `http`: those that the operator has
    set, otherwise those of this machine and of the address. Empty: only this machine can reach the page."""
    if not http or is_loopback(http):
        return []
    if set_by_operator := _setting(environment, "http_hosts"):
        return [name.strip() for name in set_by_operator.split(",") if name.strip()]
    listened = http.rpartition(":")[0].strip("[]").lower()
    names = {
        *host_names(),
        *([listened] if any(letter.isalpha() for letter in listened) and ":" not in listened else []),
    }
    return sorted(name for name in names if name != "localhost" and _HOST_NAME.fullmatch(name))


def _setting(environment: Mapping[str, str], name: str) -> str:
    return environment.get(f"CHROMA_GATEWAY_{name}".upper()) or environment.get(f"CHROMA_{name}".upper(), "")
