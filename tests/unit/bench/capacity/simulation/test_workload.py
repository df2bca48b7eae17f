"""Replies have the lengths that were measured, or those of the assumptions."""

from __future__ import annotations

import random

from bench.capacity.simulation.workload import MeasuredReplies, UniformReplies, Workload


def test_measured_replies_have_the_lengths_of_their_question_and_voice() -> None:
    replies = MeasuredReplies({(0, "a"): [4.0], (1, "a"): [5.0, 6.0]})
    dice = random.Random(0)
    assert {replies.draw_s(1, "a", dice) for _ in range(50)} == {5.0, 6.0}
    assert {replies.draw_s(1, "b", dice) for _ in range(99)} == {4.0, 5.0, 6.0}


def test_a_reply_has_a_thought_for_two_frames_at_most() -> None:
    half = Workload((1.0,), UniformReplies(4.0, 4.0))
    assert half.frames(0, "a", random.Random(0)) == 50
    assert half.thoughts(50) == 25
    fewer = Workload((1.0,), UniformReplies(4.0, 4.0), thoughts_per_frame=0.3)
    assert fewer.thoughts(50) == 15
    assert fewer.thoughts(1) == 1
