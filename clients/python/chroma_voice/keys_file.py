"""The file of API keys that a gateway reads: `{"keys": [{"id", "sha256", "tenant", "scopes", "expires", "limits"}]}`.

`sha256` is the SHA-256 of the key in hex: the file holds no key. `scopes` lists what the key allows. `expires` is a
time in UTC, such as "2027-02-25T20:00:00Z", or null for a key without an end. `limits`
may be absent; it holds the limits of the key that differ from the gateway's settings, such as
`{"conversations": 5, "uploads_per_day": null}`; null means no limit. The gateway reads the file that
CHROMA_API_KEYS_FILE names, and reads it again when it changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chroma_voice.errors import AlreadyExists, InvalidArgument, NotFound

SCOPES = ("talk", "voices", "admin")
"""What a key can allow: hold conversations; enrol and delete voices; erase the data of its tenant, read its limits."""

_PREFIX = "cv_"
"""The beginning of every key, by which people and scanners for leaked secrets know one."""
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class KeyEntry:
    """The entry of one key. `expires` is None for a key without an end."""

    id: str
    sha256: str
    tenant: str
    scopes: tuple[str, ...]
    expires: datetime | None
    limits: dict[str, int | None] | None = None
    """As they stand in the file. None: the key has the limits of the gateway's settings."""

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> KeyEntry:
        """Return the value of an entry of the file. Raises KeyError, TypeError or ValueError for a bad one."""
        expires = None if entry["expires"] is None else datetime.fromisoformat(entry["expires"])
        return cls(
            id=str(entry["id"]),
            sha256=str(entry["sha256"]),
            tenant=str(entry["tenant"]),
            scopes=tuple(str(scope) for scope in entry["scopes"]),
            expires=expires if expires is None or expires.tzinfo else expires.replace(tzinfo=UTC),
            limits=None if entry.get("limits") is None else dict(entry["limits"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in the file."""
        expires = None if self.expires is None else f"{self.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        fields = {**asdict(self), "scopes": list(self.scopes), "expires": expires}
        if self.limits is None:
            del fields["limits"]
        return fields


class KeysFile:
    """A file of keys at `path`. A change replaces the whole file at once; only its owner can read it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[KeyEntry]:
        """Return the entries in the order of the file; none when there is no file. Raises `InvalidArgument` for a file
        of another form.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        try:
            return [KeyEntry.from_json(entry) for entry in json.loads(text)["keys"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidArgument(f'{self.path} is not a file of keys: expected {{"keys": [...]}}') from None

    def add(self, key_id: str, tenant: str, scopes: Sequence[str], expires: datetime | None) -> str:
        """Make a key, add its entry and return the key, which stands nowhere else.

        Raises `AlreadyExists` when the id is taken, and `InvalidArgument` for a bad id, tenant or scope.
        """
        for what, name in (("id", key_id), ("tenant", tenant)):
            if not _NAME.fullmatch(name):
                raise InvalidArgument(f"expected a {what} of 1 to 64 letters, digits, '.', '_' and '-', got {name!r}")
        if not scopes or not set(scopes) <= set(SCOPES):
            raise InvalidArgument(f"expected scopes among {', '.join(SCOPES)}, got {', '.join(scopes) or 'none'}")
        key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        with self._locked():
            entries = self.entries()
            if any(entry.id == key_id for entry in entries):
                raise AlreadyExists(f"{self.path} has a key {key_id!r}: choose another id, or revoke it first")
            wanted = tuple(scope for scope in SCOPES if scope in scopes)
            self._write([*entries, KeyEntry(key_id, fingerprint(key), tenant, wanted, expires)])
        return key

    def remove(self, key_id: str) -> None:
        """Remove the entry of a key. Raises `NotFound` when there is none."""
        with self._locked():
            entries = self.entries()
            kept = [entry for entry in entries if entry.id != key_id]
            if len(kept) == len(entries):
                raise NotFound(f"{self.path} has no key {key_id!r}")
            self._write(kept)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers of files in this folder out until the block ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
            os.fsync(folder)
        finally:
            os.close(folder)

    def _write(self, entries: Sequence[KeyEntry]) -> None:
        path = self.path.resolve()
        draft = path.with_name(f".{path.name}.draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            if (
                path.exists() and os.geteuid() == 0
            ):  # the file of another user, such as a container's, stays readable to it
                os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
            json.dump({"keys": [entry.to_json() for entry in entries]}, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def fingerprint(key: str) -> str:
    """Return the SHA-256 of a key in hex, as the file holds it."""
    return hashlib.sha256(key.encode()).hexdigest()
