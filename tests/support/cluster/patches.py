"""The three kinds of patches that kubectl and helm send (Kubernetes API conventions, "Patch operations")."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

_KEYS = ("name", "mountPath", "containerPort", "port", "key", "ip", "topologyKey", "uid", "type")
"""Fields by which a strategic merge finds the item of a list, such as a container by its name. The first that all items
have is the key; a list without one is replaced."""


def apply_patch(kind: str, target: Any, patch: Any) -> Any:
    """The patched object. `kind` is the content type of the patch. Raises KeyError for another one."""
    patches: dict[str, Callable[[Any, Any], Any]] = {
        "application/json-patch+json": _json_patch,
        "application/merge-patch+json": merge,
        "application/strategic-merge-patch+json": strategic_merge,
    }
    return patches[kind](copy.deepcopy(target), patch)


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386): null removes a field, and a list is replaced."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def strategic_merge(target: Any, patch: Any) -> Any:
    """As `merge`, but the items of a list with a key are merged one by one."""
    if isinstance(patch, list):
        return _merge_lists(target if isinstance(target, list) else [], patch)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    merged = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        merged = {name: value for name, value in merged.items() if name in patch["$retainKeys"]}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            merged[field] = [item for item in merged.get(field, []) if item not in value]
        elif not name.startswith("$"):
            merged[name] = strategic_merge(merged.get(name), value)
    return merged


def _merge_lists(target: list[Any], patch: list[Any]) -> list[Any]:
    items = [*target, *patch]
    if not all(isinstance(item, dict) for item in items):
        return patch
    key = next((key for key in _KEYS if all(key in item for item in items)), None)
    if key is None or {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    merged = {item[key]: item for item in target}
    for item in patch:
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = strategic_merge(merged.get(item[key]), item)
    return list(merged.values())


def _json_patch(target: Any, patch: list[dict[str, Any]]) -> Any:
    """JSON patch (RFC 6902) of the fields of objects: add, replace and remove."""
    for step in patch:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        holder = target
        for part in path:
            holder = holder[part]
        if step["op"] == "remove":
            del holder[last]
        else:
            holder[last] = step["value"]
    return target
