"""OpenAI's own client at its newest version: `openai_client.py http://host:port/v1 SPEECH`, SPEECH being a WAV file.

Every event of Realtime is read strictly by the client's own types. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

EVENTS: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
MODEL = "chroma-1.0"


async def realtime(client: AsyncOpenAI) -> dict[str, Any]:
    """One spoken answer to a text."""
    text, kinds = "", []
    async with client.realtime.connect(model=MODEL) as connection:
        await connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
        await connection.conversation.item.create(item=item)
        await connection.response.create()
        async for event in connection:
            if event.type != "conversation.item.created":  # an event of the beta
                EVENTS.validate_python(event.to_dict(mode="python"))
            kinds.append(event.type)
            if event.type == "response.output_audio_transcript.delta":
                text += event.delta
            if event.type == "response.done":
                return {"text": text, "status": event.response.status, "errors": kinds.count("error")}
    raise AssertionError("the connection ended")


async def main(url: str, speech: Path) -> None:
    """Use each API once."""
    seen: dict[str, Any] = {}
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        seen["realtime"] = await realtime(client)
        chat = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello."}], modalities=["text"]
        )
        seen["chat"] = [chat.choices[0].message.content, chat.choices[0].finish_reason]
        spoken = await client.audio.speech.create(
            model=MODEL, voice="alloy", input="Hello.", instructions="cheerful", speed=1.1, response_format="pcm"
        )
        seen["speech"] = len(spoken.content)
        seen["transcription"] = (await client.audio.transcriptions.create(model=MODEL, file=speech)).text
        seen["responses"] = (await client.responses.create(model=MODEL, input="Hello.")).output_text
        seen["models"] = [model.id async for model in client.models.list()]
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
