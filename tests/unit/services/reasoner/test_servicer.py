"""The servicer over an engine, without a network: admission before the history, the deployment's system prompt."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chroma.v1.reasoner_pb2 import Message, Part, ThinkRequest, ThinkResponse
from services.common.errors import InvalidArgument, ResourceExhausted
from services.reasoner.messages import TurnOpen
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.servicer import ReasonerServicer
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.think_service import commit, opening, say
from tests.support.thinking import ThinkEngine, new_runner, running

BAD_HISTORY = [Message(role=7, parts=[Part(text="Hi")])]  # pyright: ignore[reportArgumentType]


def new_servicer(engine: ThinkEngine, template: ChatTemplate, system_prompt: str | None = None) -> ReasonerServicer:
    return ReasonerServicer(
        engine,
        template,
        system_prompt=system_prompt,
        vocab_size=640,
        max_audio_s=6.0,
        checkpoint_fingerprint="golden",
    )


async def think(servicer: ReasonerServicer, requests: list[ThinkRequest]) -> list[ThinkResponse]:
    async def sent() -> AsyncIterator[ThinkRequest]:
        for request in requests:
            yield request

    return [response async for response in servicer.Think(sent(), None)]


async def test_full_reasoner_refuses_before_it_reads_the_history(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    async with running(new_runner(golden_thinker, tokenizer, slots=1)) as engine:
        servicer = new_servicer(engine, template)
        async with engine.open(TurnOpen()):
            with pytest.raises(ResourceExhausted):
                await think(servicer, [opening(history=BAD_HISTORY)])
        with pytest.raises(InvalidArgument, match="history message 0"):
            await think(servicer, [opening(history=BAD_HISTORY)])


@pytest.mark.parametrize("sent", [None, "", "Talk like a pirate."])
async def test_system_prompt_of_the_deployment_stands_in_for_a_missing_one(
    sent: str | None, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        replies: list[list[ThinkResponse]] = []
        for deployed, asked in (("You are Chroma.", sent), (None, "You are Chroma." if sent is None else sent)):
            requests = [opening(system_prompt=asked), say("Hello"), commit()]
            replies.append(await think(new_servicer(engine, template, deployed), requests))
    for left, right in zip(*replies, strict=True):
        assert (left.thought.token_id, left.thought.hidden) == (right.thought.token_id, right.thought.hidden)
    assert replies[0][-1].done.prompt_tokens == replies[1][-1].done.prompt_tokens > 0
