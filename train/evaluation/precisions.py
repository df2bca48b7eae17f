"""One checkpoint evaluated in several precisions, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from train.evaluation.plan import Plan
from train.evaluation.questions import NEW, OUTSIDE_NEW, TYPED
from train.evaluation.results import Results, Share


@dataclass(frozen=True)
class Precision:
    """A compute dtype and a format of the weights, both in the words of `chroma-voice up`."""

    name: str
    dtype: str
    weights: str

    @property
    def options(self) -> Sequence[str]:
        """The options of `chroma-voice up`."""
        return ("--dtype", self.dtype, "--weights", self.weights)


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", "float32", "as-stored"),
        Precision("bfloat16", "bfloat16", "as-stored"),
        Precision("int8", "float32", "int8"),
        Precision("int4", "bfloat16", "int4"),
    )
}

HEAD = (
    *("precision", NEW, "beside the first line", "right in only one of both", OUTSIDE_NEW, TYPED),
    *("word errors of replies", "likeness to own voice", "ends by EOS"),
)


def without_degraded(plan: Plan) -> Plan:
    """The part of a plan that every precision is asked: all but degraded recordings."""
    return replace(plan, degraded=[])


def rows(of: Mapping[str, Results]) -> Iterable[Sequence[str]]:
    """A line for each precision, below `HEAD`. Shares are compared with those of the first precision."""
    first = next(iter(of.values()))
    for name, results in of.items():
        new, base = share(results, NEW), share(first, NEW)
        replies = results.replies[-1]
        yield (
            name,
            _percent(new),
            "" if results is first else f"{100 * (new.rate - base.rate):+.1f} points",
            "" if results is first else str(len(right_in_one(first, results))),
            _percent(share(results, OUTSIDE_NEW)),
            _percent(share(results, TYPED)),
            f"{replies.word_error_rate:.1%} of {replies.words}",
            f"{replies.own:.3f}",
            f"{replies.ended_by_eos or 0.0:.1%}",
        )


def share(results: Results, group: str) -> Share:
    """The right answers to the questions of a group; of none, 0 of 0."""
    return next((one for one in results.questions if one.name == group), Share(group, 0, 0))


def right_in_one(first: Results, second: Results) -> set[tuple[str, str]]:
    """Voice and text of the new questions that only one of the two answered right."""
    wrong, also_wrong = (
        {(one.voice, one.question) for one in results.mistakes if one.group == NEW} for results in (first, second)
    )
    return wrong ^ also_wrong


def _percent(share: Share) -> str:
    return f"{share.rate:.1%} of {share.count}" if share.count else ""
