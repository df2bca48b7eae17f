"""Settings of the speech generator service."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.sampling import SamplingParams, Temperature, TopK, TopP
from services.common.settings import ModelSettings


class SpeechGenSettings(ModelSettings):
    """What the speech generator adds to a model service. `slots` counts replies spoken at once."""

    service: ClassVar[str] = "speech_gen"

    max_lead_s: float = Field(default=2.0, ge=0)
    """Seconds of speech made ahead of the listener when a stream does not say; 0: unpaced."""
    max_reply_s: float = Field(default=300.0, gt=0)
    """Most seconds of speech in a reply, whatever a request asks for."""
    max_load: float | None = Field(default=None, gt=0)
    """Share of real time that a frame of all streams may take; a reply that would make it more is refused. Unset: 0.8
    on a GPU, no limit on a CPU, where a demo may be slower than real time."""
    temperature: Temperature | None = None
    """Temperature of streams that do not say. Unset: the checkpoint's. The published model's card uses 0.7."""
    top_k: TopK | None = None
    """Codes to draw from in streams that do not say. Unset: the checkpoint's."""
    top_p: TopP | None = None
    """Share of probability to draw from in streams that do not say. Unset: 1. The published model's card names 0.9,
    which the reference ignores."""
    kv_pages: int = Field(default=0, ge=0)
    """Pages of 16 backbone rows. 0: enough for every slot at full length."""
    voice_cache: int = Field(default=256, ge=1)
    """Voice prompts kept; the least recently used one leaves first."""

    @property
    def load_limit(self) -> float | None:
        """`max_load`, or what holds when it is not set."""
        return 0.8 if self.max_load is None and self.device.startswith("cuda") else self.max_load

    def sampling_defaults(self, checkpoint: SamplingParams) -> SamplingParams:
        """What a stream draws its codes by when it does not say: these settings, else the checkpoint's defaults."""
        wanted = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return checkpoint.changed(**{name: value for name, value in wanted.items() if value is not None})
