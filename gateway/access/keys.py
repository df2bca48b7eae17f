"""API keys: their SHA-256 hashes, ids, scopes and dates, from a file that may change and from the environment.

The file is JSON: `{"keys": [{"id", "sha256", "tenant", "scopes", "expires", "limits"}, ...]}`. No message about it
repeats any of its text, because somebody may have put a key in the wrong place.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gateway.access.caller import ANONYMOUS, Scope
from gateway.access.limits import LimitName
from gateway.identity_settings import TENANT
from gateway.metrics import KEY_RELOADS
from services.common.errors import BadSetting

log = logging.getLogger(__name__)

_POLL_S = 1.0
"""How often the file is read. Its whole text is compared, because Kubernetes exchanges a mounted Secret by a symbolic
link and keeps the size of a file that only changes its hashes."""

_MAX_FILE_BYTES = 4 * 1024 * 1024
_SHORT_KEY_CHARS = 20

_VARIABLE = "CHROMA_API_KEYS_FILE"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class _Entry(_Strict):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    tenant: Annotated[str, Field(pattern=rf"^{TENANT.pattern}$")]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    expires: AwareDatetime | None = None
    limits: dict[LimitName, Annotated[int, Field(ge=0)] | None] = {}


class _File(_Strict):
    keys: list[_Entry]


@dataclass(frozen=True)
class _Content:
    """What reading the file gave: its bytes, or why it could not be read."""

    data: bytes = b""
    problem: str = ""


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key. The key itself is not."""

    key_id: str
    digest: bytes
    """SHA-256 of the key."""
    tenant: str
    scopes: frozenset[Scope]
    expires: datetime | None = None
    limits: Mapping[LimitName, int | None] = field(default_factory=dict)
    """The limits that differ from the settings. None: no limit."""

    @property
    def is_expired(self) -> bool:
        """Whether the key's time is over."""
        return self.expires is not None and self.expires <= datetime.now(UTC)


@dataclass(frozen=True)
class KeyChange:
    """The ids of the keys that a new version of the file added, removed, or changed in any other field."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class Keys:
    """The keys of the environment and of the file. `watch` follows the file."""

    def __init__(self, by_text: dict[str, str], file: Path | None) -> None:
        """`by_text` has keys and their tenants, in plain text. Raises BadSetting for a bad file."""
        self._file = file
        self._given = _keys_of_text(by_text)
        self._content = _read(file) if file else _Content()
        self._current = _checked(self._given, _parse(self._content)) if file else self._given
        self.on_change: list[Callable[[KeyChange], None]] = []
        """Each is called after another version of the file came into use."""

    @property
    def are_configured(self) -> bool:
        """Whether callers need a key: one is given, or there is a file, be it with no key at all."""
        return self._file is not None or bool(self._given)

    def count_valid(self) -> int:
        """The number of keys that have not expired."""
        return sum(not key.is_expired for key in self._current)

    def find(self, key: str) -> ApiKey | None:
        """Return what is known of a key, also of an expired one; None for an unknown key.

        Each call compares the hash with every known one, in constant time: its duration tells nothing about the keys.
        """
        digest = _digest(key)
        found = None
        for known in self._current:
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def allows(self, key_id: str, tenant: str, scope: Scope) -> bool:
        """Whether there is a key with this id, of this tenant and with this scope, that has not expired."""
        return any(
            key.key_id == key_id and key.tenant == tenant and scope in key.scopes and not key.is_expired
            for key in self._current
        )

    def limits_of(self, tenant: str, key_id: str) -> Mapping[LimitName, int | None]:
        """Return the limits that the tenant's key with this id has of its own. The subject of another tenant's token
        may have the same name."""
        return next((key.limits for key in self._current if (key.tenant, key.key_id) == (tenant, key_id)), {})

    async def watch(self) -> None:
        """Follow the file until cancelled. A file that cannot be used leaves the old keys in use."""
        if self._file is None:
            return
        while True:
            await asyncio.sleep(_POLL_S)
            content = await asyncio.to_thread(_read, self._file)
            if content == self._content:
                continue
            self._content = content
            try:
                keys = _checked(self._given, _parse(content))
            except BadSetting as error:
                KEY_RELOADS.labels("refused").inc()
                log.error("%s; the keys that were read before stay in use", error.message)
            else:
                self._use(keys)

    def _use(self, keys: tuple[ApiKey, ...]) -> None:
        before = {key.key_id: key for key in self._current}
        after = {key.key_id: key for key in keys}
        self._current = keys
        change = KeyChange(
            added=tuple(sorted(after.keys() - before.keys())),
            removed=tuple(sorted(before.keys() - after.keys())),
            changed=tuple(sorted(key_id for key_id in after.keys() & before if after[key_id] != before[key_id])),
        )
        KEY_RELOADS.labels("loaded").inc()
        log.info(
            "%s was read again: %d keys; added: %s; removed: %s; changed: %s",
            _VARIABLE,
            len(keys),
            *(", ".join(ids) or "none" for ids in (change.added, change.removed, change.changed)),
        )
        for told in self.on_change:
            told(change)


def _read(file: Path) -> _Content:
    try:
        with file.open("rb") as opened:
            return _Content(opened.read(_MAX_FILE_BYTES + 1))
    except OSError as error:
        return _Content(problem=error.strerror or type(error).__name__)
    except ValueError:  # a path with a zero byte
        return _Content(problem="not a path")


def _parse(content: _Content) -> tuple[ApiKey, ...]:
    """Return the keys of the file. Raises BadSetting, whose message has no text of the file."""
    if content.problem:
        raise BadSetting(f"{_VARIABLE}: the file cannot be read: {content.problem}")
    if len(content.data) > _MAX_FILE_BYTES:
        raise BadSetting(f"{_VARIABLE}: expected a file of at most {_MAX_FILE_BYTES} bytes")
    try:
        file = _File.model_validate_json(content.data)
    except ValidationError as error:
        raise BadSetting(f"{_VARIABLE}: {_problem(error)}") from None
    return tuple(
        ApiKey(
            entry.id,
            bytes.fromhex(entry.sha256),
            entry.tenant,
            frozenset(entry.scopes),
            entry.expires,
            entry.limits,
        )
        for entry in file.keys
    )


def _problem(error: ValidationError) -> str:
    """Return the first problem of the file without any of its text: a name that we do not know may be a key."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    known = {*_Entry.model_fields, *_File.model_fields}
    where = ".".join(str(part) if isinstance(part, int) or part in known else "?" for part in first["loc"])
    wanted = {
        "json_invalid": "expected JSON",
        "extra_forbidden": "expected only the fields " + ", ".join(sorted(known)),
    }.get(first["type"], first["msg"])
    return f"{where or 'the file'}: {wanted}"


def _checked(given: tuple[ApiKey, ...], read: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    """Return all keys. Raises BadSetting when two of them have one id or one hash."""
    ids, digests = {key.key_id for key in given} | {ANONYMOUS}, {key.digest for key in given}
    for index, key in enumerate(read):
        if key.key_id in ids:
            raise BadSetting(f"{_VARIABLE}: keys.{index}.id: another key has this id")
        if key.digest in digests:
            raise BadSetting(f"{_VARIABLE}: keys.{index}.sha256: another key has this hash")
        ids.add(key.key_id)
        digests.add(key.digest)
    return given + read


def _keys_of_text(by_text: dict[str, str]) -> tuple[ApiKey, ...]:
    """Return the keys of the environment: all scopes but admin, and ids that name the tenant."""
    keys: list[ApiKey] = []
    for text, tenant in by_text.items():
        count = sum(key.tenant == tenant for key in keys)
        key_id = f"env-{tenant}"[:60] + (f"-{count + 1}" if count else "")
        keys.append(ApiKey(key_id, _digest(text), tenant, frozenset({Scope.TALK, Scope.VOICES})))
    if short := sum(len(text) < _SHORT_KEY_CHARS for text in by_text):
        log.warning(
            "%d keys of CHROMA_API_KEYS have fewer than %d characters: others can guess them", short, _SHORT_KEY_CHARS
        )
    return tuple(keys)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
