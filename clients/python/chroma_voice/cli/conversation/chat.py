"""`chroma-voice chat`: a conversation with the microphone and the loudspeaker of this machine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Annotated, Protocol

import numpy as np
import typer
from rich.console import Console

from chroma_voice.cli.conversation.chat_view import ChatView
from chroma_voice.cli.gateway_address import GatewayOptions, calls_gateway
from chroma_voice.cli.launcher.up import RANDOM_WEIGHTS
from chroma_voice.cli.listing import print_list
from chroma_voice.conversation import Conversation
from chroma_voice.errors import InvalidArgument
from chroma_voice.events import (
    AudioDelta,
    Event,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TurnDone,
    TurnStarted,
    UserTranscript,
)
from chroma_voice.microphone import RATE_HZ, Speaker, microphone, sound_devices
from chroma_voice.turn_detection import TurnDetection

console = Console(highlight=False, soft_wrap=True, emoji=False)

_QUIETEST_DB = -60.0


class Talk(Protocol):
    """What a chat needs of a conversation."""

    async def send_audio(self, data: bytes) -> None:
        """Send the user's speech."""
        ...

    async def cancel(self, *, played_s: float | None = None) -> None:
        """Interrupt the reply, of which so many seconds were played."""
        ...


@calls_gateway
def chat(
    voice: Annotated[str, typer.Option(help="Id of the voice that replies. Default: the server's.")] = "",
    system: Annotated[str | None, typer.Option(help="The system prompt. Default: the checkpoint's.")] = None,
    session: Annotated[str, typer.Option(help="Id of a session to go on with.")] = "",
    microphone_device: Annotated[
        str, typer.Option("--microphone", help="Number or part of the name of the microphone. Default: the system's.")
    ] = "",
    speaker_device: Annotated[
        str, typer.Option("--speaker", help="Number or part of the name of the loudspeaker. Default: the system's.")
    ] = "",
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List the sound devices and end.")] = False,
    *,
    gateway: GatewayOptions,
) -> None:
    """Talk with your microphone, hands-free: the server hears when you end, and speaking interrupts the reply.

    With a loudspeaker near the microphone, use a headset: the reply would be heard as your speech. Ctrl-C ends.
    """
    if list_devices:
        _print_devices()
        return
    found = gateway.find()
    if found.random_weights:
        console.print(f"note: {RANDOM_WEIGHTS}", markup=False)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(gateway.client())
            speaker = stack.enter_context(Speaker(_device(speaker_device)))
            sound = await stack.enter_async_context(aclosing(microphone(_device(microphone_device))))

            def make(transcribe: bool) -> Conversation:
                return client.conversation(
                    voice=voice,
                    session_id=session,
                    system_prompt=system,
                    input_rate_hz=RATE_HZ,
                    turn_detection=TurnDetection(),
                    transcribe=transcribe,
                )

            talk = await _open(stack, make)
            view = stack.enter_context(ChatView(console))
            view.say(f"session {talk.session.session_id}, voice {talk.session.voice}. Speak; Ctrl-C ends.")
            await converse(talk, talk.events(), sound, speaker, view)

    with suppress(KeyboardInterrupt):
        asyncio.run(run())


async def _open(stack: AsyncExitStack, make: Callable[[bool], Conversation]) -> Conversation:
    """Open a conversation with transcripts of the user's speech, or without where the server makes none."""
    try:
        return await stack.enter_async_context(make(True))
    except InvalidArgument as error:
        if "transcribe" not in error.message:
            raise
        return await stack.enter_async_context(make(False))


async def converse(
    talk: Talk, events: AsyncIterable[Event], sound: AsyncIterable[bytes], speaker: Speaker, view: ChatView
) -> None:
    """Send the sound of the microphone, and play and show what comes, until the server ends the conversation.

    Speech of the user stops the loudspeaker, and the server learns how much of the reply was played. A microphone that
    fails ends the chat with its error.
    """

    async def listen() -> None:
        async for piece in sound:
            view.show_level(level(piece))
            await talk.send_audio(piece)

    async def play() -> None:
        async for event in events:
            await _take(event, talk, speaker, view)
        await speaker.finish()

    both = listening, playing = asyncio.create_task(listen()), asyncio.create_task(play())
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            listening.result()
        await playing
    finally:
        for task in both:
            task.cancel()
        # A call that ends makes a write to it fail. That is not the reason why the chat ends.
        await asyncio.gather(*both, return_exceptions=True)


async def _take(event: Event, talk: Talk, speaker: Speaker, view: ChatView) -> None:
    match event:
        case SpeechStarted():
            view.set_state("hearing you")
            if speaker.is_playing:
                await talk.cancel(played_s=speaker.interrupt())
        case SpeechStopped():
            view.set_state("thinking")
        case TurnStarted():
            speaker.begin()
            view.begin_reply()
        case TextDelta():
            view.add_text(event.text)
        case AudioDelta():
            view.set_state("speaking")
            speaker.play(event.data)
        case TurnDone():
            view.end_reply(event)
        case UserTranscript() if event.text:
            view.say(f"You: {event.text}")
        case _:
            pass


def level(sound: bytes) -> float:
    """Return how loud the sound is, from 0 (-60 dBFS and less) to 1 (full scale)."""
    samples = np.frombuffer(sound, dtype="<i2").astype(np.float64) / 32768
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return max(0.0, 1 - 10 * math.log10(power) / _QUIETEST_DB) if power > 0 else 0.0


def _device(name: str) -> int | str | None:
    return int(name) if name.isdigit() else name or None


def _print_devices() -> None:
    print_list(
        ("device", "microphone", "loudspeaker", "name"),
        (
            (f"{it.index}{' *' if it.is_default else ''}", _yes(it.inputs), _yes(it.outputs), it.name)
            for it in sound_devices()
        ),
    )
    console.print("* the system's default")


def _yes(channels: int) -> str:
    return "yes" if channels else ""
