"""Sound and events on the wire of a Realtime connection."""

from __future__ import annotations

import base64
import binascii
import itertools
import secrets
from typing import Any

import numpy as np

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from gateway.api.openai.errors import BadParameter, error_code, error_type
from gateway.api.realtime.session import Format
from gateway.audio.g711 import RATE_HZ as G711_RATE_HZ
from gateway.audio.g711 import Law, decode_g711, encode_g711
from gateway.audio.resample import Resampler
from services.common.errors import ChromaError
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import decode_pcm, encode_pcm

_LAWS: dict[Format, Law] = {"audio/pcmu": "mu", "audio/pcma": "a"}

_BETA_NAMES = {
    "response.output_audio": "response.audio",
    "response.output_audio_transcript": "response.audio_transcript",
    "response.output_text": "response.text",
}


def decode_sound(text: object, sound_format: Format, param: str) -> bytes:
    """16-bit PCM of base64 in a client's format, at that format's rate. Raises BadParameter."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except binascii.Error:
        data = None
    if data is None:
        raise BadParameter(param, f"{param}: expected sound in base64")
    if sound_format == "audio/pcm":
        if len(data) % 2:
            raise BadParameter(param, f"{param}: expected whole 16-bit samples, got {len(data)} bytes")
        return data
    return decode_g711(data, _LAWS[sound_format])


class SoundOut:
    """The sound of one reply, 16-bit at 24 kHz, in a client's format."""

    def __init__(self, sound_format: Format) -> None:
        self._law: Law | None = _LAWS.get(sound_format)
        self._resampler = Resampler(SAMPLE_RATE_HZ, G711_RATE_HZ)

    def push(self, pcm: bytes) -> str:
        """Base64 of what became known; may be empty."""
        if self._law is None:
            return base64.b64encode(pcm).decode()
        return self._encode(self._resampler.push(decode_pcm(pcm, AUDIO_ENCODING_PCM_S16LE)))

    def finish(self) -> str:
        """Base64 of the rest; may be empty."""
        return "" if self._law is None else self._encode(self._resampler.finish())

    def _encode(self, samples: np.ndarray) -> str:
        assert self._law is not None, "only G.711 is made anew"
        return base64.b64encode(encode_g711(encode_pcm(samples, AUDIO_ENCODING_PCM_S16LE), self._law)).decode()


class EventNames:
    """Server events with their ids, by today's names or the beta's."""

    def __init__(self, *, beta: bool) -> None:
        self.beta = beta
        self._prefix = f"event_{secrets.token_hex(6)}"
        self._numbers = itertools.count()

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """An event."""
        if self.beta:
            stem, _, verb = kind.rpartition(".")
            kind = f"{_BETA_NAMES.get(stem, stem)}.{verb}" if stem else kind
        return {"type": kind, "event_id": f"{self._prefix}_{next(self._numbers)}", **fields}

    def error(self, error: ChromaError, client_event_id: str | None) -> dict[str, Any]:
        """The event that says what was wrong with a client's event."""
        detail = {
            "type": error_type(error),
            "code": error_code(error),
            "message": error.message,
            "param": error.param if isinstance(error, BadParameter) else None,
            "event_id": client_event_id,
        }
        return self.event("error", error=detail)

    def added(self, item: dict[str, Any], before: str | None) -> list[dict[str, Any]]:
        """The events that announce a new item: today's, and the beta's, which one framework still waits for."""
        names = ["created"] if self.beta else ["added", "created"]
        return [self.event(f"conversation.item.{name}", previous_item_id=before, item=item) for name in names]

    def done(self, item: dict[str, Any], before: str | None) -> list[dict[str, Any]]:
        """The events that say that an item will not change by itself any more."""
        return [] if self.beta else [self.event("conversation.item.done", previous_item_id=before, item=item)]


def error_detail(error: ChromaError) -> dict[str, Any]:
    """An error inside another event."""
    return {"type": error_type(error), "code": error_code(error), "message": error.message}
