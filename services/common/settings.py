"""The settings of every process: read once, from the environment, in `__main__`."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from services.common.variables import PREFIX, complaints, given_variable, own_names_first

Address = str
"""`host:port`; port 0 asks the system for a free one."""

UNIX = "unix:"
"""Beginning of the address of a Unix socket, `unix:/path`, on which a gRPC server can listen."""

PREFILL_POSITIONS = 256
"""Most positions of prompts in one step, unless a setting says otherwise. A longer prompt takes several steps, so that
it does not delay the other streams. CUDA graphs of prompts have room for so many."""

SettingsT = TypeVar("SettingsT", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """Settings of a gRPC process.

    Each field is read from `CHROMA_<SERVICE>_<FIELD>`, or else from `CHROMA_<FIELD>`. An empty variable counts as not
    set. The docstring of a field is its meaning in docs/settings.md.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    service: ClassVar[str] = ""
    """The name of the process in metrics, logs, traces and its own variables."""

    listen: Address = "127.0.0.1:0"
    """Address on which the gRPC server listens. `unix:/path` is a Unix socket: only users who may enter its folder can
    reach it."""
    metrics_listen: Address = ""
    """Address on which the process shows its metrics to Prometheus, at /metrics. Empty: it shows none."""
    health_listen: Address = ""
    """Address of a further gRPC server without TLS that answers health checks only, for probes that cannot speak TLS.
    Empty: there is no such server."""
    tls_cert: Path | None = None
    """PEM file with the certificate chain of the gRPC server. Unset: no TLS."""
    tls_key: Path | None = Field(default=None, validate_default=True)
    """PEM file with the private key of CHROMA_TLS_CERT."""
    tls_ca: Path | None = None
    """PEM file with the authorities that must have signed the certificate of each caller. Unset: callers need no
    certificate."""
    tls_callers: str = Field(default="", validate_default=True)
    """DNS names, separated by commas. The certificate of each caller must have one of them; health checks need none.
    Empty: any certificate that CHROMA_TLS_CA signed may call."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe level that is logged."""
    log_format: Literal["text", "json"] = "text"
    """Form of a log line: text for people, or one JSON object."""
    otlp_endpoint: str = ""
    """URL of the OpenTelemetry collector that gets the spans (OTLP over gRPC), such as `http://collector:4317`.
    Empty: spans go only to the log."""
    drain_s: float = Field(default=120.0, ge=0)
    """Time that running calls have to finish after SIGTERM."""
    max_connection_age_s: float = Field(default=0.0, ge=0)
    """Age at which the server asks a connection to end, so that callers behind a load balancer spread anew. 0: there is
    no such age."""
    max_connection_age_grace_s: float = Field(default=480.0, ge=0)
    """Time that running calls have to finish on such a connection: longer than the longest turn."""
    max_message_bytes: int = Field(default=32 * 1024 * 1024, gt=0)
    """Largest gRPC message that is accepted. It bounds an uploaded voice recording and the history of a turn."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; a variable of this process takes precedence over the shared one."""
        assert isinstance(env_settings, EnvSettingsSource)
        env_settings.env_vars = own_names_first(env_settings.env_vars, cls.service)
        return init_settings, env_settings

    @field_validator("listen", "metrics_listen", "health_listen")
    @classmethod
    def _has_port(cls, value: str, info: ValidationInfo) -> str:
        if value:
            split_address(value)
        if is_unix(value) and info.field_name != "listen":
            raise ValueError("expected host:port: only the gRPC server can listen on a Unix socket")
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

    @field_validator("tls_callers")
    @classmethod
    def _names_of_certificates(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("tls_ca") is None:
            raise ValueError("expected CHROMA_TLS_CA beside it: without it callers show no certificate")
        return value

    def certificates(self) -> dict[str, Path]:
        """The files with certificates that are set, by the name of their setting."""
        values = {
            name: getattr(self, name) for name in type(self).model_fields if name.endswith(("tls_cert", "tls_ca"))
        }
        return {name: path for name, path in values.items() if path is not None}


class ModelSettings(ServiceSettings):
    """Settings that every process with a model adds."""

    model: str
    """The checkpoint: a folder in the published layout, or a hub id such as `FlashLabs/Chroma-4B`."""
    device: str = "cpu"
    """The torch device of the model, such as `cpu` or `cuda:0`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The compute dtype. The codec computes in float32 whatever this says."""
    weights: Literal["as-stored", "int8", "int4"] = "as-stored"
    """How the weights of linear layers are held: as the checkpoint has them, or quantised at load to 8 or 4 bits. 8
    bits need about half the memory of bfloat16, 4 bits less than a third. `dtype` remains the compute dtype. The codec
    keeps its weights whatever this says."""
    threads: int = Field(default=0, ge=0)
    """Threads of a forward pass on the CPU. 0: torch chooses."""
    engine_stall_s: float = Field(default=120.0, gt=0)
    """When one phase of the engine's loop takes longer than this, health answers NOT_SERVING until the phase ends. The
    default fits the longest step on a slow CPU: 256 rows of a prompt through the published reasoner take 1.6 TFLOP,
    two minutes at 13 GFLOP/s. On a GPU, where a step takes less than 1 s, 10 is enough."""


def is_unix(address: Address) -> bool:
    """Return whether the address is `unix:/path`."""
    return address.startswith(f"{UNIX}/")


def split_address(address: Address) -> tuple[str, int]:
    """Host and port of `host:port`. A Unix socket counts as port 0 of `localhost`: it lies on this machine.

    Raises ValueError when there is no valid port.
    """
    if is_unix(address):
        return "localhost", 0
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"expected host:port with a port in 0..65535, got {address!r}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine as only this machine can reach it: `localhost`, 127.0.0.0/8 or [::1]. A name
    other than `localhost` does not count."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_settings(settings_type: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment.

    A missing or bad value, or a `CHROMA_*` variable that no process of the project reads, ends the process with
    status 2 and one line on standard error for each, which names the variable.
    """
    problems = complaints(os.environ, settings_type.service)
    try:
        settings = settings_type()
    except ValidationError as error:
        for problem in error.errors():
            if not problem["loc"]:  # a rule about several settings, whose message names them
                problems.append(f"bad settings: {problem['msg'].removeprefix('Value error, ')}")
                continue
            name = str(problem["loc"][0])
            variable = given_variable(os.environ, settings_type.service, name)
            # A secret value is not printed, nor is what stands inside a value.
            secret = "Secret" in str(settings_type.model_fields[name].annotation)
            shown = problem["type"] != "missing" and len(problem["loc"]) == 1 and not secret
            got = f" (got {problem['input']!r})" if shown else ""
            problems.append(f"bad setting {variable}: {problem['msg']}{got}")
    except SettingsError as error:
        field = next(name for name in settings_type.model_fields if f'"{name}"' in str(error))
        variable = given_variable(os.environ, settings_type.service, field)
        problems.append(f"bad setting {variable}: expected a JSON object")
    else:
        if not problems:
            return settings
    for line in problems:
        print(line, file=sys.stderr)  # noqa: T201
    raise SystemExit(2)
