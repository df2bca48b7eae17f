"""The names of the `CHROMA_*` variables: which exist, which process reads them, and which one a misspelt name means.

`variables.json` holds the fields of every process and the variables of the other programs. It is generated from the
settings classes (`make generated`): no process can import the classes of all the others.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PREFIX = "CHROMA_"
FILE = Path(__file__).with_name("variables.json")

_KUBERNETES = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)")
"""Variables that Kubernetes sets in a pod for each Service of the namespace, here one named chroma or chroma-*."""
_KUBERNETES_PORT = re.compile(r"\w+_PORT=(tcp|udp|sctp)://.+")
"""One more of them, told from a misspelt setting by its value."""


def shared_name(field: str) -> str:
    """The variable of a setting that all processes with this setting read."""
    return f"{PREFIX}{field}".upper()


def own_name(service: str, field: str) -> str:
    """The variable of a setting for one process only; it takes precedence over the shared one."""
    return f"{PREFIX}{service}_{field}".upper()


def given_variable(environment: Mapping[str, str], service: str, field: str) -> str:
    """The variable from which `service` reads `field` in this environment."""
    own = own_name(service, field)
    return own if service and environment.get(own) else shared_name(field)


def own_names_first(variables: Mapping[str, str | None], service: str) -> dict[str, str | None]:
    """The variables, names in lower case, with the values of `service`'s own names under the shared names."""
    own = own_name(service, "").lower()
    fields = {name.removeprefix(own): value for name, value in variables.items() if service and name.startswith(own)}
    return {**variables, **{shared_name(field).lower(): value for field, value in fields.items()}}


@cache
def known_variables() -> frozenset[str]:
    """Every `CHROMA_*` variable that a program of the project reads."""
    registry = json.loads(FILE.read_text())
    fields = [(service, field) for service, names in registry["processes"].items() for field in names]
    return frozenset(
        [own_name(service, field) for service, field in fields]
        + [shared_name(field) for _, field in fields]
        + registry["programs"]
    )


def complaints(environment: Mapping[str, str], service: str) -> list[str]:
    """One sentence for each `CHROMA_*` variable that no program of the project reads, with the nearest name that one
    does. A variable of another process is no mistake: all processes may share one environment.
    """
    known = sorted(known_variables())
    lines = []
    for name, value in sorted(environment.items()):
        written = name.upper()
        if not written.startswith(PREFIX) or written in known or _is_of_kubernetes(written, value):
            continue
        rest = [other.removeprefix(PREFIX) for other in known]
        (nearest,) = difflib.get_close_matches(written.removeprefix(PREFIX), rest, n=1, cutoff=0.0)
        process = service or "process"
        lines.append(f"{name} is not a setting of the {process}; did you mean {PREFIX}{nearest}? (docs/settings.md)")
    return lines


def _is_of_kubernetes(name: str, value: str) -> bool:
    return bool(_KUBERNETES.fullmatch(name) or _KUBERNETES_PORT.fullmatch(f"{name}={value}"))
