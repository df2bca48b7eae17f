"""A typed chat without asyncio: a line of standard input is a turn, and the reply is saved as reply-N.wav.

python examples/chat_sync.py 127.0.0.1:50051
"""

from __future__ import annotations

import sys
import wave

from chroma_voice import AudioDelta, ChromaError, SyncClient, TextDelta, TurnDone


def main(address: str) -> None:
    """Answer each line."""
    with SyncClient(address) as client, client.conversation() as talk:
        for number, line in enumerate(sys.stdin, start=1):
            talk.send_text(line.strip())
            talk.commit()
            with wave.open(f"reply-{number}.wav", "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(24_000)
                for event in talk.reply():
                    match event:
                        case TextDelta():
                            print(event.text, end="", flush=True)
                        case AudioDelta():
                            file.writeframes(event.data)
                        case TurnDone():
                            print(f"\n[failed: {event.error.message}]" if event.error else "")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except ChromaError as error:
        sys.exit(f"error: {error}")
