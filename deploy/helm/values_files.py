"""values.yaml, its schema and the chart's README, from the table of values; Chart.yaml from pyproject.toml."""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.helm.values import FROM_MANIFESTS, Schema, Value, table

ROOT = Path(__file__).parents[2]
README = Path(__file__).parent / "readme.md"
CHART = Path(__file__).parent / "chart.yaml"

HEADER = """\
# Values of the chart chroma-voice. Made by `make generated` from deploy/helm/values.py and deploy/k8s. Put your own
# values into a file of yours: helm install ... --values mine.yaml. Unknown names are refused (values.schema.json).
"""


def texts(defaults: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The names and texts of the four files. `defaults` are those that stand in the manifests."""
    values = [_with_default(value, defaults) for value in table()]
    if unknown := defaults.keys() - {value.name for value in values}:
        raise ValueError(f"values without a meaning: {', '.join(sorted(unknown))}")
    yield "values.yaml", HEADER + values_text(values)
    yield "values.schema.json", json.dumps(schema(values), separators=(",", ":")) + "\n"
    yield "README.md", README.read_text() + "\n" + rows(values)
    yield "Chart.yaml", CHART.read_text().replace("VERSION", version())


def version() -> str:
    """The version of the project."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def _with_default(value: Value, defaults: dict[str, Any]) -> Value:
    if value.default is not FROM_MANIFESTS:
        return value
    if value.name not in defaults:
        raise ValueError(f"no place in the manifests has the value {value.name}")
    return Value(value.name, value.meaning, value.schema, defaults[value.name])


def nested(values: list[Value]) -> dict[str, Any]:
    """The values as nested mappings, by the parts of their names."""
    root: dict[str, Any] = {}
    for value in values:
        *folders, last = value.name.split(".")
        place = root
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return root


def values_text(values: list[Value]) -> str:
    """values.yaml with the meaning of each value above it."""
    lines: list[str] = []

    def walk(place: dict[str, Any], indent: int) -> None:
        space = " " * indent
        for name, held in place.items():
            if not indent:
                lines.append("")
            if isinstance(held, Value):
                lines.extend(
                    textwrap.wrap(held.meaning, 118, initial_indent=f"{space}# ", subsequent_indent=f"{space}# ")
                )
                dumped = yaml.safe_dump({name: held.default}, sort_keys=False, width=1000)
                lines.extend(space + line for line in dumped.splitlines())
            else:
                lines.append(f"{space}{name}:")
                walk(held, indent + 2)

    walk(nested(values), 0)
    return "\n".join(lines) + "\n"


def schema(values: list[Value]) -> Schema:
    """The JSON Schema of the values. It refuses every name that the table does not have."""

    def walk(place: dict[str, Any]) -> Schema:
        properties = {
            name: {"description": held.meaning, **held.schema} if isinstance(held, Value) else walk(held)
            for name, held in place.items()
        }
        return {"type": "object", "additionalProperties": False, "properties": properties}

    root = walk(nested(values))
    # Helm gives a chart that another one includes these values of that one.
    root["properties"]["global"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **root}


def rows(values: list[Value]) -> str:
    """The table of values as markdown."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for value in values:
        default = json.dumps(value.default, ensure_ascii=False) if value.default != "" else ""
        lines.append(f"| `{value.name}` | {f'`{default}`' if default else 'empty'} | {value.meaning} |")
    return "\n".join(lines) + "\n"
