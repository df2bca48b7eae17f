"""Settings every process shares: read once, from the environment, in `__main__`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Address = str
"""`host:port`; port 0 asks the system for a free one."""

SettingsT = TypeVar("SettingsT", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """What a gRPC process needs. Each field is read from `CHROMA_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="CHROMA_", frozen=True, extra="ignore")

    service: ClassVar[str] = ""
    """What the process is called in metrics, logs and traces."""

    listen: Address = "127.0.0.1:0"
    """Where gRPC listens."""
    metrics_listen: Address = ""
    """Where Prometheus scrapes /metrics. Empty: nowhere."""
    health_listen: Address = ""
    """Where health alone is answered in plain text, for probes that cannot speak TLS. Empty: nowhere."""
    tls_cert: Path | None = None
    """PEM certificate chain that this server shows. Unset: no TLS."""
    tls_key: Path | None = Field(default=None, validate_default=True)
    """PEM private key of `tls_cert`."""
    tls_ca: Path | None = None
    """PEM certificates of the authorities that must have signed the callers' certificates. Unset: callers show none."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str = ""
    """Where spans go, such as `http://collector:4317` (OTLP over gRPC). Empty: only to the log."""
    drain_s: float = Field(default=120.0, ge=0)
    """After SIGTERM, how long running calls may take to finish."""
    max_connection_age_s: float = Field(default=0.0, ge=0)
    """A connection this old is asked to end, so that callers behind a load balancer spread anew. 0: never."""
    max_connection_age_grace_s: float = Field(default=330.0, ge=0)
    """How long running calls may still take on such a connection: longer than the longest turn."""
    max_message_bytes: int = Field(default=32 * 1024 * 1024, gt=0)
    """Largest message taken, which bounds an uploaded voice recording and a turn's history."""

    @field_validator("listen", "metrics_listen", "health_listen")
    @classmethod
    def _has_port(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("tls_key")
    @classmethod
    def _key_of_cert(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("tls_cert") is None):
            raise ValueError("expected CHROMA_TLS_CERT and CHROMA_TLS_KEY together")
        return value

    @field_validator("tls_ca")
    @classmethod
    def _callers_of_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("tls_cert") is None:
            raise ValueError("expected CHROMA_TLS_CERT and CHROMA_TLS_KEY beside it")
        return value


class ModelSettings(ServiceSettings):
    """What a process with a model adds."""

    model: str
    """The checkpoint: a folder in the published layout, or a hub id."""
    device: str = "cpu"
    """A torch device, such as `cpu` or `cuda:0`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype. The codec computes in float32 whatever this says."""
    threads: int = Field(default=0, ge=0)
    """Threads of a CPU forward pass. 0: torch's own choice."""
    slots: int = Field(default=16, ge=1)
    """Streams served at once; a further one is refused with RESOURCE_EXHAUSTED."""


def split_address(address: Address) -> tuple[str, int]:
    """Host and port of `host:port`. Raises ValueError when there is no valid port."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"expected host:port with a port in 0..65535, got {address!r}")
    return host, int(port)


def read_settings(settings_type: type[SettingsT]) -> SettingsT:
    """The settings from the environment. A bad or missing value ends the process and names itself."""
    try:
        return settings_type()
    except ValidationError as error:
        for problem in error.errors():
            variable = "CHROMA_" + "_".join(str(part) for part in problem["loc"]).upper()
            given = "" if problem["type"] == "missing" else f" (got {problem['input']!r})"
            print(f"bad setting {variable}: {problem['msg']}{given}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
