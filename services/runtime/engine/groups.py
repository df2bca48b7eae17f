"""A stream's outputs in groups: messages that hold several outputs cost less on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

OutputT = TypeVar("OutputT")

NEAR_S = 0.25
"""An output whose speech is played in less time than this is never held."""


class Outputs(Protocol[OutputT]):
    """The caller's side of a stream (`Stream`)."""

    def __aiter__(self) -> AsyncIterator[OutputT]:
        """The outputs in order."""
        ...

    def take_ready(self, most: int) -> list[OutputT]:
        """Up to `most` further outputs that are there already."""
        ...


async def in_groups(
    stream: Outputs[OutputT], *, output_s: float, hold_s: float, most: int
) -> AsyncIterator[list[OutputT]]:
    """Yield the outputs of a stream in order, at least one and at most `most` at a time.

    An output of `output_s` seconds of speech is held for half of the time that is left until its playback is near
    (`NEAR_S`), at most for `hold_s`; playback is taken to start with the first output. So the first outputs come alone
    and at once. With 0 as `hold_s` only outputs that are there already share a group. Raises what ends the stream.
    """
    clock = asyncio.get_running_loop().time
    began_s, given = 0.0, 0
    async for output in stream:
        now_s = clock()
        began_s = began_s or now_s
        ahead_s = given * output_s - (now_s - began_s)
        if (wait_s := min(hold_s, (ahead_s - NEAR_S) / 2)) > 0:
            await asyncio.sleep(wait_s)
        group = [output, *stream.take_ready(most - 1)]
        given += len(group)
        yield group
