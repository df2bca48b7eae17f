"""The inputs of the plan, read from a TOML file.

A name that is unknown or missing, or a value out of range, is an error.
Units are in the names. `assumptions.toml` beside this file says what each value means.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

DEFAULT_FILE = Path(__file__).parent / "assumptions.toml"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class BadAssumptions(Exception):
    """The file cannot be used. The message is one line for each error."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Objective(_Section):
    """What users must hear."""

    first_sound_p95_s: Positive
    max_refused: Share
    max_with_gaps: Share


class Talk(_Section):
    """How people talk."""

    question_s: Positive
    reply_least_s: Positive
    reply_most_s: Positive
    think_s: NotNegative
    min_turns: Count
    max_turns: Count
    barge_in: Share
    voices: Count
    hop_s: NotNegative
    prefix_kept: Share

    @model_validator(mode="after")
    def _in_order(self) -> Talk:
        if self.reply_least_s > self.reply_most_s or self.min_turns > self.max_turns:
            raise ValueError("expected the least of replies and turns to be at most the most of them")
        return self

    @property
    def turn_s(self) -> float:
        """Seconds from one question's begin to the next, on average, when nothing is interrupted."""
        return self.question_s + (self.reply_least_s + self.reply_most_s) / 2 + self.think_s

    @property
    def conversation_s(self) -> float:
        """Seconds of a conversation, on average: its last turn has no pause after it."""
        return self.turn_s * (self.min_turns + self.max_turns) / 2 - self.think_s


class GpuKind(_Section):
    """A kind of GPU: its data sheet, and your price."""

    memory_gb: Positive
    bandwidth_gb_s: Positive
    bf16_tflops: Positive
    fp32_tflops: Positive
    price_per_hour: NotNegative


class DeviceUse(_Section):
    """How much of a GPU is used."""

    memory_used: PositiveShare
    contexts_gb: NotNegative
    positions: Count
    max_slots: Count
    copy_share: PositiveShare
    compute_share: PositiveShare


class Zones(_Section):
    """Failure domains."""

    count: Count


class Scaling(_Section):
    """The autoscaler and what a new replica waits for."""

    poll_s: Positive
    target: PositiveShare
    pod_start_s: NotNegative
    node_start_s: NotNegative
    weights_gb_s: Positive
    warm_up_s: NotNegative
    growth_share_per_min: NotNegative


class Gateway(_Section):
    """Processes without a model."""

    cpu_ms: Positive
    core_used: PositiveShare
    price_per_core_hour: NotNegative


class StoreServers(_Section):
    """The servers of the store."""

    commands_per_turn: Positive
    tenant_share: Share
    bytes_per_session: Positive
    sessions_per_live: Positive
    commands_per_server: Positive
    memory_gb_per_server: Positive


class Assumptions(_Section):
    """All inputs."""

    objective: Objective
    talk: Talk
    gpus: dict[str, GpuKind] = Field(min_length=1)
    device: DeviceUse
    zones: Zones
    scaling: Scaling
    gateway: Gateway
    store: StoreServers


def read_assumptions(path: Path = DEFAULT_FILE) -> Assumptions:
    """Read a file. Raises `BadAssumptions` with the file, the name, and what was expected."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadAssumptions(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadAssumptions(f"{path}: no TOML: {error}") from None
    try:
        return Assumptions.model_validate(found)
    except ValidationError as error:
        lines = [f"{path}: {_name(each['loc'])}: {_told(each['type'], each['msg'])}" for each in error.errors()]
        raise BadAssumptions("\n".join(lines)) from None


def _name(place: tuple[int | str, ...]) -> str:
    return ".".join(map(str, place)) or "the file"


def _told(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such value"
    if kind == "missing":
        return "it is missing"
    return message[0].lower() + message[1:]
