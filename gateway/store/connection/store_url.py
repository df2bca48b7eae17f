"""The URL of a store: how it names its servers, and what a client of them needs.

    redis://user:password@host:6379/0                              one server
    redis+cluster://user:password@host:6379,host:6379              a cluster; any of its servers tell of all
    redis+sentinel://user:password@host:26379,host:26379/NAME/0    the primary NAME that these Sentinels watch

`valkey` stands for `redis` too, and `rediss` or `valkeys` for TLS. User and password are those of the servers; the
options `?sentinel_username=...&sentinel_password=...` are those of the Sentinels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl

from redis.asyncio.connection import SSLConnection, parse_url

from services.common.errors import InvalidArgument

_URL = re.compile(r"(?:redis|valkey)(?P<tls>s?)(?:\+(?P<kind>cluster|sentinel))?://(?P<rest>.*)", re.DOTALL)
_REST = re.compile(r"(?:(?P<user>[^@/?]*)@)?(?P<hosts>[^@/?]+)(?:/(?P<path>[^?]*))?(?:\?(?P<query>.*))?", re.DOTALL)
_SENTINEL_PORT = 26379
_EXAMPLES = {
    "server": "redis://:password@host:6379/0",
    "cluster": "redis+cluster://:password@host:6379,host:6379",
    "sentinel": "redis+sentinel://:password@host:26379,host:26379/NAME",
}


@dataclass(frozen=True)
class StoreUrl:
    """A URL that was read."""

    kind: Literal["server", "cluster", "sentinel"]
    hosts: tuple[tuple[str, int], ...]
    """Host and port of the server, of servers of the cluster, or of the Sentinels."""
    tls: bool
    options: dict[str, Any] = field(repr=False, default_factory=dict)
    """What redis-py's client of a server takes besides host and port: user, password, database and others."""
    primary: str = ""
    """The name by which the Sentinels know the primary."""
    sentinel_options: dict[str, Any] = field(repr=False, default_factory=dict)
    """User and password at the Sentinels."""


def parse_store_url(url: str) -> StoreUrl:
    """Read a URL. Raises InvalidArgument, with no part of the URL, which may have a password."""
    found = _URL.fullmatch(url)
    kind = (found and found["kind"]) or "server"
    try:
        if found is None:
            raise ValueError
        if kind == "server":
            return _server(found)
        return _several(found, kind)
    except ValueError:
        raise InvalidArgument(f"expected a store URL such as {_EXAMPLES[kind]}") from None


def _server(found: re.Match[str]) -> StoreUrl:
    given: dict[str, Any] = dict(parse_url(f"redis{found['tls']}://{found['rest']}"))
    tls = given.pop("connection_class", None) is SSLConnection
    host = (given.pop("host", "localhost"), given.pop("port", 6379))
    return StoreUrl("server", (host,), tls, given)


def _several(found: re.Match[str], kind: str) -> StoreUrl:
    rest = _REST.fullmatch(found["rest"])
    if rest is None:
        raise ValueError
    user = f"{rest['user']}@" if rest["user"] else ""
    read: list[dict[str, Any]] = [dict(parse_url(f"redis://{user}{host}")) for host in rest["hosts"].split(",")]
    default_port = _SENTINEL_PORT if kind == "sentinel" else 6379
    hosts = tuple((str(it["host"]), int(it.get("port", default_port))) for it in read)
    options = {name: read[0][name] for name in ("username", "password") if name in read[0]}
    path, query = rest["path"] or "", dict(parse_qsl(rest["query"] or "", strict_parsing=bool(rest["query"])))
    tls = bool(found["tls"])
    if kind == "cluster":
        if path not in ("", "0") or query:
            raise ValueError
        return StoreUrl("cluster", hosts, tls, options)
    name, _, database = path.partition("/")
    sentinel_options = {option.removeprefix("sentinel_"): value for option, value in query.items()}
    if not name or not {"sentinel_username", "sentinel_password"}.issuperset(query):
        raise ValueError
    return StoreUrl("sentinel", hosts, tls, {**options, "db": int(database or 0)}, name, sentinel_options)
