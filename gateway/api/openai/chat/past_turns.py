"""The conversation that a request brings along: its messages become the turns of a conversation, which then replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AudioFormat
from gateway.api.errors import BadParameter, TooLarge
from gateway.api.openai.chat.request import decode_recording
from gateway.audio.read import DecodingBudget, read_recording
from gateway.audio.trim import TooLong
from gateway.conversation.conversation import Conversation
from gateway.settings import GatewaySettings
from gateway.store.records import ToolCall
from services.common.errors import ChromaError
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import encode_pcm

INPUT_FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=HEARING_RATE_HZ)
"""The format in which recordings enter the conversation."""


@dataclass(frozen=True)
class Recording:
    """A recording of the user in a message: a file in base64. `where` names its field in errors."""

    data: str
    where: str


@dataclass(frozen=True)
class Said:
    """A piece of a message: who said it, and what. An assistant may call a tool."""

    role: Literal["user", "assistant"]
    content: str | Recording | ToolCall


@dataclass(frozen=True)
class Result:
    """The result of a tool call."""

    call_id: str
    output: str


async def talk_from(conversation: Conversation, said: Sequence[Said | Result], settings: GatewaySettings) -> None:
    """Put what was said into the conversation, in order, and make it reply.

    Raises BadParameter for a file that is no recording, TooLarge for too much audio in the request.
    """
    budget = _AudioBudget(settings)
    recordings = [piece.content for piece in said if isinstance(piece, Said) and isinstance(piece.content, Recording)]
    decoded = iter([await budget.decode(recording) for recording in recordings])
    for piece in said:
        if isinstance(piece, Result):
            conversation.tools.answer(piece.call_id, piece.output)
        elif isinstance(piece.content, ToolCall):
            await conversation.tools.inject(piece.content)
        elif isinstance(piece.content, Recording):
            await conversation.append_audio(next(decoded))
            conversation.end_audio()
        elif piece.role == "assistant":
            await conversation.inject_reply(piece.content)
        else:
            conversation.add_text(piece.content)
    await conversation.respond()  # without a message of the user at the end it answers the history


class _AudioBudget:
    """Decodes the recordings of one request, and refuses them once they are longer together than a turn and the history
    before it may be."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._max_part_s = settings.max_input_s
        self._total_s = self._left_s = settings.max_input_s + settings.history_audio_s
        self._decoding = DecodingBudget()

    async def decode(self, recording: Recording) -> bytes:
        """Return the recording as float32 samples at 16 kHz. No more of it is decoded than the budget has left.

        Raises BadParameter for a file that is no recording or longer than a turn may be, TooLarge when the request has
        too much audio.
        """
        where, max_s = recording.where, min(self._max_part_s, self._left_s)
        file = await decode_recording(recording.data, where)
        try:
            samples = await read_recording(file, rate_hz=HEARING_RATE_HZ, min_s=0.0, max_s=max_s, budget=self._decoding)
        except TooLong as error:
            if max_s < self._max_part_s:
                message = f"expected at most {self._total_s:g} s of audio in all messages together, got more"
                raise TooLarge("messages", message) from None
            raise BadParameter(where, f"{where}: {error.message}") from None
        except ChromaError as error:
            raise BadParameter(where, f"{where}: {error.message}") from None
        self._left_s -= len(samples) / HEARING_RATE_HZ
        return encode_pcm(samples, AUDIO_ENCODING_PCM_F32LE)
