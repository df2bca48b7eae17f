"""Answers are compared letter for letter; results come in order, with a few tasks at a time."""

import asyncio

import pytest

from train.evaluation.ask import Answer, each
from train.evaluation.questions import NEW, Question

QUESTION = Question(NEW, "zoe", "how do I make a taco", "Warm a tortilla.")


@pytest.mark.parametrize(
    ("reply", "right"),
    [("Warm a tortilla.", True), (" Warm a tortilla.\n", True), ("Warm a tortilla", False), ("", False)],
)
def test_an_answer_is_right_letter_for_letter(reply: str, right: bool) -> None:
    assert Answer(QUESTION, reply).right is right


async def test_results_come_in_order_and_only_some_run_at_once() -> None:
    running, most, steps = 0, 0, 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - item):
            await asyncio.sleep(0)
        running -= 1
        return item * item

    def step() -> None:
        nonlocal steps
        steps += 1

    assert await each(range(8), work, at_once=3, done=step) == [item * item for item in range(8)]
    assert (most, steps) == (3, 8)


async def test_a_failure_ends_all() -> None:
    async def work(item: int) -> int:
        if item == 1:
            raise ValueError("refused")
        await asyncio.sleep(3600)
        return item

    with pytest.raises(ExceptionGroup) as failure:
        await each(range(3), work, at_once=3, done=lambda: None)
    assert failure.group_contains(ValueError, match="refused")
