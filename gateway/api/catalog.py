"""The names of the model and the voices: the server's own, and those that OpenAI's clients send by default."""

from __future__ import annotations

from gateway.api.errors import BadParameter
from gateway.conversation.backend import Backend
from gateway.store.voices import check_voice_id
from services.common.errors import InvalidArgument, NotFound

MODEL = "chroma-1.0"
"""The one model. It answers requests that name any other model, too."""

OPENAI_VOICES = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)
"""The voices that OpenAI's clients name by default. An enrolled voice with such an id takes its place."""


async def choose_voice(backend: Backend, tenant: str, voice_id: str) -> str:
    """The id of the voice to speak with when a client names `voice_id`.

    An enrolled voice is chosen as it is. No name, or one of OpenAI's voices that is not enrolled, means the default
    voice.

    Raises:
        NotFound: there is no such voice.
        InvalidArgument: `voice_id` cannot be the id of a voice.
        FailedPrecondition: the default voice is asked for, but the tenant has no voice.
        Unavailable: the store is away.
    """
    if not voice_id:
        return await backend.default_voice(tenant)
    check_voice_id(voice_id)
    if await backend.voices.exists(tenant, voice_id):
        return voice_id
    if voice_id in OPENAI_VOICES:
        return await backend.default_voice(tenant)
    raise NotFound(f"no voice {voice_id!r}: GET /v1/voices lists them")


async def voice_of_field(backend: Backend, tenant: str, voice_id: str, param: str) -> str:
    """As `choose_voice`, for a voice that the field `param` names. Raises BadParameter where there is no such voice."""
    try:
        return await choose_voice(backend, tenant, voice_id)
    except (NotFound, InvalidArgument) as error:
        raise BadParameter(param, f"{param}: {error.message}", "invalid_value") from None
