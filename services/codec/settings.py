"""Settings of the codec service."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.settings import ModelSettings


class CodecSettings(ModelSettings):
    """Settings that the codec adds to those of a process with a model."""

    service: ClassVar[str] = "codec"

    slots: int = Field(default=16, ge=1)
    """Decode streams served at once. A further one is refused with RESOURCE_EXHAUSTED."""
    encode_slots: int = Field(default=4, ge=1)
    """Encode streams served at once. A further one is refused with RESOURCE_EXHAUSTED."""
    max_encode_s: float = Field(default=60.0, gt=0)
    """Longest recording that is encoded. A longer one is refused with OUT_OF_RANGE."""
