"""Audio and server events as a Realtime connection sends them."""

from __future__ import annotations

import base64
import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from gateway.api.client_json import decode_base64
from gateway.api.errors import BadParameter, error_code, error_type
from gateway.api.realtime.session.session import Format
from gateway.api.realtime.session.update import Encoding
from gateway.audio.g711 import Law, decode_g711, encode_g711
from gateway.audio.resample import Resampler
from services.common.errors import ChromaError
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import decode_pcm, encode_pcm

Events = list[dict[str, Any]]
"""Server events, in order."""

Send = Callable[[Events], Awaitable[None]]
"""Sends server events, in order."""

_LAWS: dict[Encoding, Law] = {"audio/pcmu": "mu", "audio/pcma": "a"}

_BETA_NAMES = {
    "response.output_audio": "response.audio",
    "response.output_audio_transcript": "response.audio_transcript",
    "response.output_text": "response.text",
}


async def decode_audio(text: object, audio_format: Format, param: str) -> bytes:
    """Decode base64 audio of a client to 16-bit PCM at the rate of `audio_format`. Its last sample may be incomplete.

    Raises BadParameter.
    """
    if not isinstance(text, str):
        raise BadParameter(param, f"{param}: expected audio in base64")
    data = await decode_base64(text, param, "audio")
    law = _LAWS.get(audio_format.encoding)
    if law is None:
        return data
    return decode_g711(data, law)


class ReplyAudioEncoder:
    """Encodes the audio of one reply, 16-bit PCM at 24 kHz, in a client's format and base64."""

    def __init__(self, audio_format: Format) -> None:
        self._law: Law | None = _LAWS.get(audio_format.encoding)
        """None: the client takes PCM."""
        self._is_ready = self._law is None and audio_format.rate_hz == SAMPLE_RATE_HZ
        """Whether the client takes the audio as it is."""
        self._resampler = Resampler(SAMPLE_RATE_HZ, audio_format.rate_hz)

    def push(self, pcm: bytes) -> str:
        """Encode a piece. The result may be empty: the resampler holds samples back."""
        if self._is_ready:
            return base64.b64encode(pcm).decode()
        return self._encode(self._resampler.push(decode_pcm(pcm, AUDIO_ENCODING_PCM_S16LE)))

    def finish(self) -> str:
        """Encode what the resampler holds back. The result may be empty."""
        return "" if self._is_ready else self._encode(self._resampler.finish())

    def _encode(self, samples: np.ndarray) -> str:
        pcm = encode_pcm(samples, AUDIO_ENCODING_PCM_S16LE)
        return base64.b64encode(encode_g711(pcm, self._law) if self._law is not None else pcm).decode()


class EventFactory:
    """Makes the server events of one connection, with ids, under the current names or the beta's."""

    def __init__(self, *, beta: bool) -> None:
        self.beta = beta
        self._prefix = f"event_{secrets.token_hex(6)}"
        self._numbers = itertools.count()

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return an event of type `kind`; the beta's name replaces it on a beta connection."""
        if self.beta:
            stem, _, verb = kind.rpartition(".")
            kind = f"{_BETA_NAMES.get(stem, stem)}.{verb}" if stem else kind
        return {"type": kind, "event_id": f"{self._prefix}_{next(self._numbers)}", **fields}

    def error(self, error: ChromaError, client_event_id: str | None) -> dict[str, Any]:
        """Return the event that says what was wrong with a client's event; None: no client event caused the error."""
        detail = {
            "type": error_type(error),
            "code": error_code(error),
            "message": error.message,
            "param": error.param if isinstance(error, BadParameter) else None,
            "event_id": client_event_id,
        }
        return self.event("error", error=detail)

    def truncated(self, item_id: str, audio_end_ms: int) -> dict[str, Any]:
        """Return the event that says that a reply's item was shortened to what was played."""
        fields = {"item_id": item_id, "content_index": 0, "audio_end_ms": audio_end_ms}
        return self.event("conversation.item.truncated", **fields)

    def added(self, item: dict[str, Any], before: str | None) -> Events:
        """Return the events that announce a new item: the current one, and the beta's, which one framework expects."""
        names = ["created"] if self.beta else ["added", "created"]
        return [self.event(f"conversation.item.{name}", previous_item_id=before, item=item) for name in names]

    def done(self, item: dict[str, Any], before: str | None) -> Events:
        """Return the events that say that an item is complete. The beta has none."""
        return [] if self.beta else [self.event("conversation.item.done", previous_item_id=before, item=item)]

    def whole(self, item: dict[str, Any], before: str | None) -> Events:
        """Return the events that announce a new item which is complete."""
        return [*self.added(item, before), *self.done(item, before)]


def error_detail(error: ChromaError) -> dict[str, Any]:
    """Return an error as a field of another event."""
    return {"type": error_type(error), "code": error_code(error), "message": error.message}
