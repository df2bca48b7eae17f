"""Events of the Realtime API, in its present and its beta names, as a load generator counts them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from chroma_voice.bench.targets.target import Event, Outcome, ReplyEnded, ReplyStarted, Sound, SpeechHeard
from chroma_voice.errors import FailedPrecondition

_SOUND = ("response.output_audio.delta", "response.audio.delta")
_OUTCOMES: dict[str, Outcome] = {"completed": "completed", "incomplete": "completed", "cancelled": "interrupted"}
_HARMLESS = ("response_cancel_not_active", "cancel_not_active", "truncat")
"""Parts of the code or the message of errors after an interruption: the reply had ended just before."""


class Translator:
    """Follows the responses of one connection."""

    def __init__(self) -> None:
        self.item_id = ""
        """The item whose sound came last."""
        self._owed = False
        """Whether a response was asked for and has not begun."""
        self._number = 0
        self._running = ""

    def asked(self) -> None:
        """Note that a response was asked for."""
        self._owed = True

    def translate(self, event: dict[str, Any]) -> list[Event]:
        """Return what a server event means. Raises `FailedPrecondition` for sound that cannot be read."""
        kind = event["type"]
        if kind == "response.created":
            return self._begin(_id(event))
        if kind in _SOUND:
            self.item_id = str(event.get("item_id") or "")
            reply_id = str(event.get("response_id") or self._running)
            began = [] if reply_id and reply_id == self._running else self._begin(reply_id)
            return [*began, Sound(self._running, _decoded(event.get("delta")))]
        if kind == "response.done":
            return self._done(event)
        if kind == "input_audio_buffer.speech_started":
            return [SpeechHeard()]
        if kind == "error":
            return self._error(event.get("error"))
        return []

    def _begin(self, reply_id: str) -> list[Event]:
        """A response begins. A server may give it no id."""
        self._number += 1
        self._running, self._owed = reply_id or f"response {self._number}", False
        return [ReplyStarted(self._running)]

    def _done(self, event: dict[str, Any]) -> list[Event]:
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        reply_id = _id(event) or self._running
        outcome = _OUTCOMES.get(str(response.get("status", "completed")), "failed")
        self._owed = False
        if outcome != "failed":
            return [ReplyEnded(reply_id, outcome)]
        details = response.get("status_details")
        error = details.get("error") if isinstance(details, dict) else None
        return [ReplyEnded(reply_id, "failed", *_told(error))]

    def _error(self, error: Any) -> list[Event]:
        """An error event fails the response that is owed. Else it concerns nothing that is counted."""
        status, message = _told(error)
        if not self._owed or any(part in f"{status} {message}".lower() for part in _HARMLESS):
            return []
        self._owed = False
        return [ReplyEnded("", "failed", status, message)]


def _told(error: Any) -> tuple[str, str]:
    """The code and the message of an error object."""
    error = error if isinstance(error, dict) else {}
    status = error.get("code") or error.get("type") or "failed"
    return str(status), str(error.get("message") or "")


def _id(event: dict[str, Any]) -> str:
    response = event.get("response")
    found = response.get("id") if isinstance(response, dict) else event.get("response_id")
    return str(found or "")


def _decoded(delta: Any) -> bytes:
    try:
        return base64.b64decode(delta, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise FailedPrecondition("expected sound in base64, got something else") from None
