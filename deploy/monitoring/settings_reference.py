"""Writes docs/settings.md and services/common/variables.json from the settings classes and the command line.

`python -m deploy.monitoring.settings_reference`, or `make generated`.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from chroma_voice.cli import app
from gateway.call_settings import CallSettings
from gateway.identity_settings import IdentitySettings
from gateway.quota_settings import QuotaSettings
from gateway.server_settings import ServerSettings
from gateway.settings import GatewaySettings
from gateway.store_settings import StoreSettings
from services.codec.settings import CodecSettings
from services.common import variables
from services.common.settings import ModelSettings, ServiceSettings
from services.reasoner.settings import ReasonerSettings
from services.speech_gen.settings import SpeechGenSettings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

PROCESSES: tuple[type[ServiceSettings], ...] = (GatewaySettings, ReasonerSettings, SpeechGenSettings, CodecSettings)

SECTIONS: tuple[tuple[str, str, type[ServiceSettings]], ...] = (
    ("Every process", "Read by gateway, reasoner, speech_gen and codec.", ServiceSettings),
    ("Every process with a model", "Read by reasoner, speech_gen and codec.", ModelSettings),
    ("Gateway", "Read by the gateway.", GatewaySettings),
    ("Gateway: servers", "Read by the gateway.", ServerSettings),
    ("Gateway: callers", "Read by the gateway.", IdentitySettings),
    ("Gateway: limits of callers", "Read by the gateway.", QuotaSettings),
    ("Gateway: calls", "Read by the gateway, for calls over WebRTC and of telephones.", CallSettings),
    ("Gateway: store", "Read by the gateway.", StoreSettings),
    ("Reasoner", "Read by reasoner.", ReasonerSettings),
    ("Speech generator", "Read by speech_gen.", SpeechGenSettings),
    ("Codec", "Read by codec.", CodecSettings),
)

INTRODUCTION = """# Settings

Made from the code by `make generated`; a test checks that it is up to date.

Every setting is an environment variable, and each process reads its variables once, when it starts.

- **One process alone.** Put the name of the process after `CHROMA_`: `CHROMA_CODEC_SLOTS` sets the codec's slots and
  beats `CHROMA_SLOTS`, which all processes read. The names are `GATEWAY`, `REASONER`, `SPEECH_GEN` and `CODEC`, and
  this works for every variable but those of the last table.
- **Mistakes stop the start.** A bad or missing value, or a `CHROMA_*` variable that no program of this project reads,
  ends the process with status 2 and a line that names the variable and, when it is unknown, the nearest name there is.
  A variable that only another process reads is no mistake, so all processes may get one environment. Nor are the
  variables that Kubernetes sets for a Service named `chroma` or `chroma-*`, such as `CHROMA_VOICE_SERVICE_HOST`.
- **An empty variable counts as not set.**
- `true`, `1`, `yes` and `on` mean yes; `false`, `0`, `no` and `off` mean no.
"""

PROGRAMS_HEADER = "| variable | read by | default | meaning |\n|---|---|---|---|\n"

OTHER_PROGRAMS = (
    (
        "CHROMA_API_KEY",
        "every `chroma-voice` command that calls a gateway",
        "",
        "API key for the gateway. The option `--api-key` sets it too, but others can see it in the list of processes.",
    ),
    (
        "CHROMA_MODEL",
        "`deploy/k8s/base/fetch-weights.sh`",
        "required",
        "Folder that the script fills with the weights.",
    ),
    (
        "CHROMA_PROTOS",
        "`clients/node/talk.js`",
        "`protos` of the repository",
        "Folder of the `.proto` files.",
    ),
)

UNITS = {
    "turns_per_minute": "turns",
    "audio_s_per_day": "seconds",
    "uploads_per_day": "recordings",
    "sessions": "sessions",
    "calls": "calls",
    "voices": "voices",
    "client_secrets": "client secrets",
    "s": "seconds",
    "bytes": "bytes",
    "chars": "characters",
    "turns": "turns",
    "items": "items",
    "embeddings": "embeddings",
    "conversations": "conversations",
    "connections": "connections",
    "turns_at_once": "turns",
    "replicas": "replicas",
    "processes": "processes",
    "rate": "bytes per second",
    "slots": "streams",
    "streams": "calls",
    "threads": "threads",
    "thoughts": "thoughts",
    "positions": "positions",
    "pages": "pages",
    "cache": "voice prompts",
    "prompts": "voice prompts",
    "load": "share of real time",
    "k": "codes",
    "p": "share",
    "temperature": "factor",
}
"""The unit of a number, by the last words of the field's name."""


def page() -> str:
    """The text of docs/settings.md."""
    parts = [INTRODUCTION]
    for title, readers, settings_type in SECTIONS:
        parts.append(
            f"\n## {title}\n\n{readers}\n\n| variable | value | default | unit | meaning |\n|---|---|---|---|---|\n"
        )
        parts.extend(_row(settings_type.service, name, field) for name, field in own_fields(settings_type).items())
    parts.append(
        "\n## Commands and scripts\n\n`chroma-voice` takes each of these except `CHROMA_API_KEY` as an option too, "
        "which beats the variable. "
    )
    parts.append("`chroma-voice up` hands its whole environment to the processes that it starts.\n\n")
    parts.append(PROGRAMS_HEADER)
    parts.extend(f"| `{name}` | {reader} | {default} | {meaning} |\n" for name, reader, default, meaning in programs())
    return "".join(parts)


def several(name: str) -> bool:
    """Whether several classes declare the field, each with a meaning or a default of its own."""
    return sum(name in own_fields(settings_type) for _, _, settings_type in SECTIONS) > 1


def own_fields(settings_type: type[ServiceSettings]) -> dict[str, FieldInfo]:
    """The fields that a class declares itself, in its order."""
    return {name: field for name, field in settings_type.model_fields.items() if name in settings_type.__annotations__}


def registry() -> str:
    """The content of services/common/variables.json."""
    names = {
        "processes": {process.service: sorted(process.model_fields) for process in PROCESSES},
        "programs": sorted({name for name, *_ in programs()}),
    }
    return json.dumps(names, indent=2) + "\n"


def programs() -> list[tuple[str, str, str, str]]:
    """The variables that are read by programs other than the processes: variable, reader, default and meaning."""
    readers: dict[tuple[str, str, str], list[str]] = {}
    for command, option in _command_options(typer.main.get_command(app)):
        default = f"`{option.default}`" if option.default not in (None, "") else ""
        readers.setdefault((str(option.envvar), default, str(option.help)), []).append(f"`chroma-voice {command}`")
    found = [(name, ", ".join(names), default, meaning) for (name, default, meaning), names in readers.items()]
    return sorted([*found, *OTHER_PROGRAMS])


def _command_options(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each option of a command and its subcommands that has a variable, with the command's name."""
    for name, child in getattr(command, "commands", {}).items():
        yield from _command_options(child, f"{path} {name}".strip())
    for option in command.params:
        if option.envvar:
            yield path, option


def _row(service: str, name: str, field: FieldInfo) -> str:
    assert field.description, f"{name} has no docstring"
    default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
    meaning = " ".join(field.description.split())
    names = [variables.shared_name(name)]
    if service and several(name):
        names.insert(0, variables.own_name(service, name))
    cells = (" or ".join(f"`{name}`" for name in names), _value(name, field), default, unit(name, field), meaning)
    return f"| {' | '.join(cells)} |\n"


def unit(name: str, field: FieldInfo) -> str:
    """The unit of a setting. Empty: the setting is no number. Raises KeyError for a number without a unit."""
    if _kind(field) not in (int, float):
        return ""
    return next(unit for words, unit in UNITS.items() if f"_{name}".endswith(f"_{words}"))


def _kind(field: FieldInfo) -> Any:
    """The type of a setting, without its bounds and without the None of an optional one."""
    kind = _not_none(field.annotation)
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _not_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) not in (types.UnionType, typing.Union):
        return annotation
    (kind,) = (option for option in typing.get_args(annotation) if option is not types.NoneType)
    return kind


def _value(name: str, field: FieldInfo) -> str:
    kind = _kind(field)
    if typing.get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if kind in (int, float):
        return ", ".join(["whole number" if kind is int else "number", *_bounds(field)])
    if kind is str and name.endswith("listen"):
        return "host:port"
    return {str: "text", SecretStr: "secret text", bool: "yes or no", Path: "file"}[kind]


def _bounds(field: FieldInfo) -> Iterator[str]:
    optional = FieldInfo.from_annotation(_not_none(field.annotation))
    for bound in [*field.metadata, *optional.metadata]:
        match bound:
            case annotated_types.Ge(ge=least):
                yield f"at least {least:g}"
            case annotated_types.Gt(gt=below):
                yield f"above {below:g}"
            case annotated_types.Le(le=most):
                yield f"at most {most:g}"


def _default(value: object) -> str:
    match value:
        case SecretStr():
            return _default(value.get_secret_value())
        case None:
            return "unset"
        case "":
            return "empty"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:,.10g}"
        case Mapping():
            return f"`{json.dumps(value)}`"
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page())
    variables.FILE.write_text(registry())
