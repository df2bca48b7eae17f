"""A text that is spoken whole, in as many replies as it needs, in one ephemeral conversation after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.generation_pb2 import END_REASON_LIMIT, END_REASON_POSITIONS
from gateway.access.caller import Caller
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.one_shot import one_shot
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import Event, TurnDone
from gateway.text.segments import segments
from gateway.text.speakable import speakable

_SLOW_SPEECH_CHARS_PER_S = 10
"""Characters a second of slow speech. A reply holds at least so much text."""
_MIN_SEGMENT_CHARS = 40


async def spoken_form(text: str, language: str) -> str:
    """Return the text made speakable: numbers, markdown, dates and addresses become words."""
    return await asyncio.to_thread(speakable, text, language)


async def speak_text(backend: Backend, caller: Caller, config: SessionConfig, text: str) -> AsyncGenerator[Event, None]:
    """Yield the events of the replies that speak `text`, with one TurnDone at the end that counts all of them.

    The text is spoken as it is written: `spoken_form` comes before. A text of more than one reply counts as that many
    turns; all are spoken in one seat of the caller. Raises the domain error of a turn that fails. When a
    limit cuts a reply before the end of its text, the rest is not spoken: see `is_cut`.
    """
    settings = backend.settings
    max_reply_s = min(config.max_reply_s or settings.max_reply_s, settings.max_reply_s)
    parts = segments(text, max(_MIN_SEGMENT_CHARS, int(max_reply_s * _SLOW_SPEECH_CHARS_PER_S))) or [""]
    done: TurnDone | None = None
    async with backend.seat(caller):
        for part in parts:
            async with aclosing(_spoken(backend, caller, config, part)) as events:
                async for event in events:
                    if not isinstance(event, TurnDone):
                        yield event
                        continue
                    done = event if done is None else _sum(done, event)
                    done = replace(done, out_of_domain=_outside(backend, text) if done.out_of_domain else ())
                    if is_cut(event):
                        yield done
                        return
    if done is not None:
        yield done


def _outside(backend: Backend, text: str) -> tuple[str, ...]:
    """The sentences of the whole text that the checkpoint cannot say: a part may end within a sentence."""
    domain = backend.upstreams.reasoner.domain()
    return domain.outside(text) if domain else ()


def is_cut(done: TurnDone) -> bool:
    """Whether a limit ended the speech before its text. Speech that the model itself ends early is not cut."""
    return done.speech_end in (END_REASON_LIMIT, END_REASON_POSITIONS) and len(done.heard_text) < len(done.text)


def _spoken(backend: Backend, caller: Caller, config: SessionConfig, text: str) -> AsyncGenerator[Event, None]:
    async def say(conversation: Conversation) -> None:
        await conversation.say(text, end=True, verbatim=True, is_checked=True)

    return one_shot(backend, caller, config, ConversationOptions(max_lead_s=0.0), say, has_seat=True)


def _sum(before: TurnDone, last: TurnDone) -> TurnDone:
    """The end of `last` with the counts of both."""
    return replace(
        last,
        text=f"{before.text}{last.text}",
        heard_text=f"{before.heard_text}{last.heard_text}",
        output_audio_s=before.output_audio_s + last.output_audio_s,
        input_tokens=before.input_tokens + last.input_tokens,
        cached_tokens=before.cached_tokens + last.cached_tokens,
        output_tokens=before.output_tokens + last.output_tokens,
        speech_restarts=before.speech_restarts + last.speech_restarts,
        timings=before.timings,
    )
