"""Which outputs of a stream share a group, by the time that is left to their playback."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from services.runtime.engine.groups import in_groups
from tests.support.virtual_time import virtual_time

OUTPUT_S = 0.08


class Timed:
    """Outputs 0, 1, 2, ... that are made at these times after the first is asked for."""

    def __init__(self, made_s: Sequence[float]) -> None:
        self._made = deque(enumerate(made_s))
        self._clock = asyncio.get_running_loop().time
        self._began_s = self._clock()

    async def __aiter__(self) -> AsyncIterator[int]:
        while self._made:
            await asyncio.sleep(self._began_s + self._made[0][1] - self._clock())
            yield self._made.popleft()[0]

    def take_ready(self, most: int) -> list[int]:
        now_s = self._clock() - self._began_s + 1e-6
        taken: list[int] = []
        while self._made and self._made[0][1] <= now_s and len(taken) < most:
            taken.append(self._made.popleft()[0])
        return taken


async def groups(made_s: Sequence[float], *, hold_s: float = 0.64, most: int = 64) -> list[tuple[list[int], float]]:
    """Each group and the time at which it came."""
    with virtual_time():
        clock = asyncio.get_running_loop().time
        began_s = clock()
        grouping = in_groups(Timed(made_s), output_s=OUTPUT_S, hold_s=hold_s, most=most)
        return [(group, clock() - began_s) async for group in grouping]


async def test_outputs_near_their_playback_come_alone_and_at_once() -> None:
    made_s = [0.08 * number for number in range(20)]
    found = await groups(made_s)
    assert [group for group, _ in found] == [[number] for number in range(20)]
    assert all(abs(at_s - made) < 1e-6 for (_, at_s), made in zip(found, made_s, strict=True))


async def test_outputs_far_ahead_share_groups_that_are_still_in_time() -> None:
    lead = [0.01 * number for number in range(25)]  # 2 s of sound in 0.25 s
    made_s = lead + [0.25 + 0.08 * number for number in range(100)]
    found = await groups(made_s)
    assert [number for group, _ in found for number in group] == list(range(125)), "in order, without a gap"
    assert [group for group, _ in found[:4]] == [[number] for number in range(4)], "the first quarter second"
    assert all(at_s <= OUTPUT_S * group[0] + 1e-6 or group[0] == 0 for group, at_s in found), "before its playback"
    steady = [len(group) for group, _ in found[-10:-1]]
    assert min(steady) >= 8, "0.64 s of sound a group, once the lead is full"
    assert all(OUTPUT_S * group[0] - at_s >= 1.0 for group, at_s in found[-10:-1]), "most of the lead stays"


async def test_outputs_that_are_there_already_share_a_group_without_a_hold() -> None:
    assert [group for group, _ in await groups([0.0] * 5, hold_s=0.0, most=3)] == [[0, 1, 2], [3, 4]]
    assert [group for group, _ in await groups([0.0] * 3, hold_s=0.0, most=1)] == [[0], [1], [2]]
