"""The figures of strangers as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from train.evaluation.report import Markers, percent, table
from train.evaluation.strangers.measure import StrangerFigures

MARKERS = Markers("<!-- strangers: written by make eval-nano -->", "<!-- /strangers -->")

_MIN_OWN = 0.75
_MIN_NEAREST = 0.60
_MAX_WER = 0.10

_HEAD = (
    *("speaker", "made by", "replies", "likeness to own prompt", "two recordings", "after the codec"),
    *("closest other", "of recordings", "own is nearest", "of recordings", "word errors", "ends by EOS"),
)


def report(figures: Sequence[StrangerFigures]) -> str:
    """The aims and a line for each stranger, at least one; the last line has the means over the speakers."""

    def mean(of: Callable[[StrangerFigures], float]) -> float:
        return sum(map(of, figures)) / len(figures)

    own, nearest = mean(lambda one: one.own), mean(lambda one: one.own_is_nearest)
    errors = sum(one.wrong_words for one in figures) / sum(one.words for one in figures)
    aims = (
        ("mean likeness of strangers to their replies", f"≥ {_MIN_OWN}", f"{own:.2f}", own >= _MIN_OWN),
        (
            f"own speaker is the nearest of {len(figures)}",
            f"≥ {_MIN_NEAREST:.0%}",
            percent(nearest),
            nearest >= _MIN_NEAREST,
        ),
        ("word error rate of strangers", f"≤ {_MAX_WER:.0%}", percent(errors), errors <= _MAX_WER),
    )
    every = (
        *(
            "all",
            "",
            str(sum(one.replies for one in figures)),
            f"{own:.2f}",
            f"{mean(lambda one: one.prompts_own):.2f}",
        ),
        *(f"{mean(lambda one: one.coded_own):.2f}", f"{mean(lambda one: one.closest_other):.2f}"),
        *(f"{mean(lambda one: one.prompts_closest_other):.2f}", percent(nearest)),
        *(percent(mean(lambda one: one.prompts_own_is_nearest)), percent(errors)),
        percent(mean(lambda one: one.ended_by_eos)),
    )
    return "\n\n".join(
        (
            table(
                ("aim", "wanted", "measured", "met"),
                ((aim, wanted, measured, "yes" if met else "**no**") for aim, wanted, measured, met in aims),
            ),
            table(_HEAD, [*map(_row, figures), every]),
        )
    )


def _row(one: StrangerFigures) -> Sequence[str]:
    return (
        *(
            one.speaker,
            one.engine,
            str(one.replies),
            f"{one.own:.2f}",
            f"{one.prompts_own:.2f}",
            f"{one.coded_own:.2f}",
        ),
        *(f"{one.closest_other:.2f}", f"{one.prompts_closest_other:.2f}", percent(one.own_is_nearest)),
        *(percent(one.prompts_own_is_nearest), percent(one.word_error_rate), percent(one.ended_by_eos)),
    )
