"""Which voice a request of an OpenAI client gets."""

from __future__ import annotations

from gateway.conversation.backend import Backend
from gateway.store.voices import check_voice_id
from services.common.errors import NotFound

PRESETS = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)
"""OpenAI's voices, which its clients name by default. Enrol a voice under such an id to give it a sound of its own."""


async def choose_voice(backend: Backend, tenant: str, wanted: str | None) -> str:
    """The voice for `wanted`: that voice; for none, or one of OpenAI's that is not enrolled, the default one.

    Raises NotFound, InvalidArgument (no id), FailedPrecondition (no voice at all), Unavailable.
    """
    if not wanted:
        return await backend.default_voice(tenant)
    check_voice_id(wanted)
    if await backend.voices.exists(tenant, wanted):
        return wanted
    if wanted in PRESETS:
        return await backend.default_voice(tenant)
    raise NotFound(f"no voice {wanted!r}: GET /v1/voices lists them")
