"""Files of API keys."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def key_entry(key: str, **changes: Any) -> dict[str, Any]:
    """Return one entry of a file: `key` may talk for the tenant `acme`, and its last characters are its id."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return {"id": key[-6:], "sha256": digest, "tenant": "acme", "scopes": ["talk"], **changes}


def write_keys(file: Path, *entries: dict[str, Any]) -> Path:
    """Write a file with these entries, at once as a rename does. Returns its path."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"keys": list(entries)}))
    return new.rename(file)
