"""Many conversations at once: each line of standard input is a question, asked in a conversation of its own.

python examples/batch.py 127.0.0.1:50051 < questions.txt > answers.jsonl
"""

from __future__ import annotations

import asyncio
import json
import sys

from chroma_voice import ChromaError, Client

AT_ONCE = 4


async def ask(client: Client, question: str, slots: asyncio.Semaphore) -> dict[str, object]:
    """Ask one question. The client tries again where the server is full."""
    async with slots:
        try:
            async with client.conversation(store=False, max_lead_s=0.0) as talk:
                await talk.send_text(question)
                await talk.commit()
                done = await talk.reply().done()
                done.raise_for_error()
                return {"question": question, "answer": done.text, "speech_s": round(done.output_audio_s, 2)}
        except ChromaError as error:
            return {"question": question, "error": error.message}


async def main(address: str) -> None:
    """Print an answer as a line of JSON for each question, in their order."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with Client(address) as client:
        questions = [line.strip() for line in sys.stdin if line.strip()]
        for answer in await asyncio.gather(*(ask(client, question, slots) for question in questions)):
            print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
