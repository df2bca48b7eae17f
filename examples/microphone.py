"""A hands-free conversation with microphone and loudspeaker: speaking interrupts the reply. Use a headset.

pip install sounddevice
python examples/microphone.py 127.0.0.1:50051
"""

from __future__ import annotations

import asyncio
import sys

from chroma_voice import (
    AudioDelta,
    ChromaError,
    Client,
    Conversation,
    SpeechStarted,
    TextDelta,
    TurnDetection,
    TurnDone,
    TurnStarted,
)
from chroma_voice.microphone import RATE_HZ, Speaker, microphone


async def listen(talk: Conversation) -> None:
    """Send what the microphone hears, all the time."""
    async for sound in microphone():
        await talk.send_audio(sound)


async def answer(talk: Conversation) -> None:
    """Play what comes, until the server ends the conversation."""
    with Speaker() as speaker:
        async for event in talk.events():
            match event:
                case SpeechStarted() if speaker.is_playing:
                    await talk.cancel(played_s=speaker.interrupt())  # the history keeps what was heard
                case TurnStarted():
                    speaker.begin()
                case TextDelta():
                    print(event.text, end="", flush=True)
                case AudioDelta():
                    speaker.play(event.data)
                case TurnDone():
                    print(f" [{event.outcome}]", flush=True)


async def main(address: str) -> None:
    """Talk until Ctrl-C, or until the server or the microphone ends it."""
    async with (
        Client(address) as client,
        client.conversation(input_rate_hz=RATE_HZ, turn_detection=TurnDetection()) as talk,
    ):
        listening, answering = asyncio.create_task(listen(talk)), asyncio.create_task(answer(talk))
        await asyncio.wait((listening, answering), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            listening.result()  # raises why the microphone failed
        listening.cancel()
        await answering


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    except KeyboardInterrupt:
        pass
    except ChromaError as error:
        sys.exit(f"error: {error}")
