"""LangChain's chat model: `langchain_chat.py http://host:port/v1`. Prints one JSON object."""

from __future__ import annotations

import json
import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

MESSAGES = [SystemMessage("Be brief."), HumanMessage("Hello.")]


def main(url: str) -> None:
    """Ask in several ways."""
    model = ChatOpenAI(model="chroma-1.0", base_url=url, api_key="none", max_retries=0)
    over_responses = ChatOpenAI(model="chroma-1.0", base_url=url, api_key="none", max_retries=0, use_responses_api=True)
    seen = {
        "invoked": model.invoke(MESSAGES).content,
        "streamed": "".join(str(chunk.content) for chunk in model.stream(MESSAGES)),
        "stopped": model.invoke(MESSAGES, stop=[" dear"]).content,
        "responses": over_responses.invoke(MESSAGES).text,
    }
    print(json.dumps(seen))


main(*sys.argv[1:])
