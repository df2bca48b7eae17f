"""Settings of the reasoner service."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.settings import PREFILL_POSITIONS, ModelSettings


class ReasonerSettings(ModelSettings):
    """Settings that the reasoner adds to those of a process with a model."""

    service: ClassVar[str] = "reasoner"

    slots: int = Field(default=16, ge=1)
    """Turns served at once, from their first input to their last thought. A further one is refused with
    RESOURCE_EXHAUSTED. Passes of low priority, which are transcripts, have as many slots of their own."""
    max_thoughts: int = Field(default=1024, ge=1)
    """Most thoughts of a reply, whatever a request asks for."""
    max_positions: int = Field(default=8192, ge=16)
    """Most positions of a conversation with its reply. The limit of the checkpoint and all `kv_pages` hold too."""
    kv_pages: int = Field(default=0, ge=0)
    """Pages of the KV cache, 16 positions each. 0: a quarter of what all slots at full length need, but enough for
    one. When they run out, the newest turns wait."""
    system_prompt: str = ""
    """System prompt of a conversation that has none. Empty: the default of the checkpoint's chat template."""
    prefill_positions: int = Field(default=PREFILL_POSITIONS, ge=16)
    """Most positions of prompts in one step. More bring a prompt to its end sooner; fewer delay the other turns
    less."""
    max_audio_s: float = Field(default=299.0, gt=0, le=299)
    """Longest audio of a user's turn. A longer one is refused with OUT_OF_RANGE. The model takes just under 300 s."""
