from __future__ import annotations

import asyncio

import pytest

from chroma_voice import ChromaError, InvalidArgument, ResourceExhausted, Unavailable
from chroma_voice.backoff import Backoff


class Attempts:
    """Fails with each error in turn, then succeeds."""

    def __init__(self, *errors: ChromaError) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def test_a_call_is_made_again_while_the_server_is_away_or_full() -> None:
    attempts = Attempts(Unavailable("away"), ResourceExhausted("full", retry_after_s=0.0))
    assert await Backoff().run(attempts) == "done"
    assert attempts.made == 3


async def test_the_last_error_is_told_when_attempts_run_out() -> None:
    attempts = Attempts(Unavailable("first"), Unavailable("second"))
    with pytest.raises(Unavailable, match="second"):
        await Backoff(attempts=2).run(attempts)


async def test_a_wrong_request_is_not_made_again() -> None:
    attempts = Attempts(InvalidArgument("wrong"))
    with pytest.raises(InvalidArgument):
        await Backoff().run(attempts)
    assert attempts.made == 1


async def test_the_servers_hint_makes_the_pause_longer() -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await Backoff().run(Attempts(ResourceExhausted("full", retry_after_s=0.5)))
    assert loop.time() - began_s >= 0.5
