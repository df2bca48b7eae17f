"""Settings of the codec service."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.settings import ModelSettings


class CodecSettings(ModelSettings):
    """What the codec adds to a model service. `slots` counts decode streams."""

    service: ClassVar[str] = "codec"

    encode_slots: int = Field(default=4, ge=1)
    """Encode streams served at once."""
    max_encode_s: float = Field(default=60.0, gt=0)
    """Longest recording encoded, in seconds; more is refused with OUT_OF_RANGE."""
