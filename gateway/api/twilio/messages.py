"""The messages of Twilio's media streams, as far as the gateway reads them (twilio.com/docs/voice/media-streams)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gateway.api.client_json import parse_json
from gateway.api.errors import BadParameter

MAX_MESSAGE_CHARS = 64 * 1024
"""Twilio's messages have about 400 characters: 20 ms of sound."""

Sid = Annotated[str, Field(min_length=1, max_length=64)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")


class MediaFormat(_Message):
    """The format of the caller's sound. Twilio has one."""

    encoding: Literal["audio/x-mulaw"] = "audio/x-mulaw"
    sampleRate: Literal[8_000] = 8_000  # noqa: N815  # Twilio's name
    channels: Literal[1] = 1


class Start(_Message):
    """What Twilio says of a call when its stream starts."""

    callSid: Annotated[str, Field(max_length=64)] = ""  # noqa: N815  # Twilio's name
    customParameters: dict[str, JsonValue] = Field(default_factory=dict, max_length=64)  # noqa: N815  # Twilio's name
    mediaFormat: MediaFormat = Field(default_factory=MediaFormat)  # noqa: N815  # Twilio's name


class StartMessage(_Message):
    """`start`: the first message that says anything."""

    streamSid: Sid  # noqa: N815  # Twilio's name
    start: Start


class Media(_Message):
    """A piece of sound, mu-law in base64."""

    track: str = "inbound"
    payload: str


class MediaMessage(_Message):
    """`media`."""

    media: Media


class Mark(_Message):
    """The name of a mark that the gateway sent."""

    name: Annotated[str, Field(max_length=256)]


class MarkMessage(_Message):
    """`mark`: all that the gateway sent before the mark was played, or dropped by `clear`."""

    mark: Mark


class Parameters(_Message):
    """The `<Parameter>`s of a `<Stream>` that the gateway reads. All are text. Others are the application's own."""

    key: str = ""
    """API key, token or client secret of the caller."""
    voice: str = ""
    instructions: str = ""
    model: str = ""
    greeting: str = ""
    """Text that is spoken as soon as the call is connected."""
    speak_first: Literal["true", "false"] = "false"
    """Whether the model greets the caller by itself."""
    session: str = ""
    """Realtime session settings as JSON."""
    session_id: str = ""
    """The stored session to continue."""
    store: Literal["true", "false"] = "true"

    async def settings(self) -> dict[str, Any]:
        """Return the fields of the call's session. Raises BadParameter."""
        given: Any = await parse_json(self.session, "session") if self.session else {}
        if not isinstance(given, dict):
            raise BadParameter("session", "session: expected a JSON object")
        if self.instructions:
            given["instructions"] = self.instructions
        if self.voice:
            given["voice"] = self.voice
        return given


async def read_message(text: str | None) -> tuple[str, dict[str, Any]]:
    """Return the name of a message's event and the message. Raises BadParameter for anything else."""
    if text is None or len(text) > MAX_MESSAGE_CHARS:
        raise BadParameter("event", f"expected messages of JSON text of at most {MAX_MESSAGE_CHARS} characters")
    message = await parse_json(text, "event")
    if not isinstance(message, dict) or not isinstance(message.get("event"), str):
        raise BadParameter("event", "expected a JSON object with an `event`")
    return message["event"], message
