"""Settings of the speech generator service."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.common.sampling import SamplingParams, Temperature, TopK, TopP
from services.common.settings import PREFILL_POSITIONS, ModelSettings


class SpeechGenSettings(ModelSettings):
    """Settings that the speech generator adds to those of a process with a model."""

    service: ClassVar[str] = "speech_gen"

    slots: int = Field(default=16, ge=1)
    """Replies spoken at once. A further one is refused with RESOURCE_EXHAUSTED."""
    max_lead_s: float = Field(default=2.0, ge=0)
    """How far the speech of a reply is made ahead of its playback when a request does not say. 0: as fast as the
    device allows."""
    max_reply_s: float = Field(default=300.0, gt=0)
    """Longest speech of a reply, whatever a request asks for."""
    max_load: float | None = Field(default=None, gt=0)
    """Share of real time that one frame of all streams together may take. A reply that would take more is refused
    with RESOURCE_EXHAUSTED. Unset: 0.8 on a GPU; no limit on a CPU, where a demo may be slower than real time."""
    temperature: Temperature | None = None
    """Temperature of replies whose request names none. Unset: the checkpoint's. The published model's card uses 0.7."""
    top_k: TopK | None = None
    """Most probable codes to draw from, in replies whose request names no number. Unset: the checkpoint's number."""
    top_p: TopP | None = None
    """Share of probability to draw from, in replies whose request names none. Unset: 1. The published model's card
    names 0.9, which the reference ignores."""
    kv_pages: int = Field(default=0, ge=0)
    """Pages of the KV cache, 16 positions of the backbone each. 0: enough for all slots at full length."""
    prefill_positions: int = Field(default=PREFILL_POSITIONS, ge=16)
    """Most positions of voice prompts in one step. More bring a prompt to its end sooner; fewer delay the other replies
    less."""
    shared_prompts: int = Field(default=64, ge=0)
    """Most voice prompts whose pages of the KV cache are kept for later replies. The least recently used one leaves
    first, also when a reply needs its pages."""
    voice_cache: int = Field(default=256, ge=1)
    """Most voice prompts kept on the device. The least recently used one leaves first."""
    voice_cache_bytes: int = Field(default=512 * 1024 * 1024, ge=0)
    """Most bytes of these voice prompts on the device: 4 KB for each code frame and each transcript token of the
    published model in bfloat16, so about 0.7 MB for ten seconds. A larger prompt is not kept."""

    @property
    def load_limit(self) -> float | None:
        """`max_load`, or the limit that holds when it is unset. None: no limit."""
        return 0.8 if self.max_load is None and self.device.startswith("cuda") else self.max_load

    def sampling_defaults(self, checkpoint: SamplingParams) -> SamplingParams:
        """What a stream draws its codes by when it does not say: these settings, else the checkpoint's defaults."""
        wanted = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return checkpoint.changed(**{name: value for name, value in wanted.items() if value is not None})
