"""Settings of the reasoner service."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.settings import ModelSettings


class ReasonerSettings(ModelSettings):
    """What the reasoner adds to a model service. `slots` counts turns heard and thought at once."""

    service: ClassVar[str] = "reasoner"

    max_thoughts: int = Field(default=1024, ge=1)
    """Most thoughts of a reply, whatever a request asks for."""
    max_positions: int = Field(default=8192, ge=16)
    """Most positions of a conversation with its reply; the checkpoint's own limit bounds it too."""
    kv_pages: int = Field(default=0, ge=0)
    """Pages of 16 positions. 0: a quarter of what every slot at full length would need, but enough for one."""
    max_audio_s: float = Field(default=299.0, gt=0, le=299)
    """Longest recording of a user's turn, in seconds; more is refused with OUT_OF_RANGE.
    The model hears just under 300 s."""
