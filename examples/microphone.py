"""A hands-free conversation with microphone and loudspeaker: speaking interrupts the reply. Use a headset.

pip install sounddevice
python examples/microphone.py 127.0.0.1:50051
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from chroma_voice import (
    AudioDelta,
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


async def main(address: str) -> None:
    """Talk until Ctrl-C."""
    async with (
        Client(address) as client,
        client.conversation(input_rate_hz=RATE_HZ, turn_detection=TurnDetection()) as talk,
    ):
        listening = asyncio.create_task(listen(talk))
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
        listening.cancel()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
