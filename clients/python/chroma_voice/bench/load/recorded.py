"""Recorded arrivals: a file of JSON lines, one for each conversation. A run writes its own plan in the same form."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chroma_voice.bench.load.plan import Mix, PlannedConversation, PlannedTurn, Question
from chroma_voice.errors import InvalidArgument


def read_plan(path: Path, mix: Mix, questions: Sequence[Question]) -> list[PlannedConversation]:
    """Read a plan. What a line does not say is drawn from `mix`.

    A line is an object with `at_s` and, each optional, `voice`, `hands_free` and `turns`; a turn is an object with
    `question` (the name of a recording), `think_s` and `barge_in_s`. Raises `InvalidArgument`, with the line's number.
    """
    names = {question.name: index for index, question in enumerate(questions)}
    plan: list[PlannedConversation] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            plan.append(_conversation(json.loads(line), mix, len(plan), names))
        except (ValueError, TypeError, KeyError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidArgument(
                f'{path}, line {number}: expected a conversation such as {{"at_s": 1.5}}; {what}'
            ) from None
    if not plan:
        raise InvalidArgument(f"{path}: expected a line of JSON for each conversation, got an empty file")
    return sorted(plan, key=lambda conversation: conversation.at_s)


def write_plan(path: Path, plan: Sequence[PlannedConversation], questions: Sequence[Question]) -> None:
    """Write a plan, from which `read_plan` makes the same conversations again."""
    with path.open("w", encoding="utf-8") as file:
        for conversation in plan:
            turns = [
                {"question": questions[turn.question].name, "think_s": turn.think_s, "barge_in_s": turn.barge_in_s}
                for turn in conversation.turns
            ]
            line = {"at_s": conversation.at_s, "voice": conversation.voice, "hands_free": conversation.hands_free}
            file.write(json.dumps(line | {"turns": turns}, ensure_ascii=False) + "\n")


def _conversation(line: Any, mix: Mix, number: int, names: dict[str, int]) -> PlannedConversation:
    if not isinstance(line, dict):
        raise ValueError("got another kind of JSON")
    _check_names(line, {"at_s", "voice", "hands_free", "turns"})
    drawn = mix.conversation(number, _seconds(line["at_s"], "at_s"))
    if "voice" in line:
        drawn = replace(drawn, voice=str(line["voice"]))
    if "hands_free" in line:
        drawn = replace(drawn, hands_free=bool(line["hands_free"]))
    if "turns" in line:
        if not isinstance(line["turns"], list) or not line["turns"]:
            raise ValueError("expected a list of turns")
        drawn = replace(drawn, turns=tuple(_turn(turn, drawn.turns[0], names) for turn in line["turns"]))
    return drawn


def _turn(turn: Any, drawn: PlannedTurn, names: dict[str, int]) -> PlannedTurn:
    if not isinstance(turn, dict):
        raise ValueError("expected an object for each turn")
    _check_names(turn, {"question", "think_s", "barge_in_s"})
    question, barge_in = drawn.question, turn.get("barge_in_s")
    if "question" in turn:
        if turn["question"] not in names:
            raise ValueError(f"there is no recording {turn['question']!r}")
        question = names[turn["question"]]
    barge_in_s = None if barge_in is None else _seconds(barge_in, "barge_in_s")
    return PlannedTurn(question, _seconds(turn.get("think_s", 0.0), "think_s"), barge_in_s)


def _seconds(value: Any, name: str) -> float:
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"expected {name} in seconds, 0 or more, got {value!r}")
    return seconds


def _check_names(found: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(found.keys() - known):
        raise ValueError(f"unknown: {', '.join(unknown)}")
