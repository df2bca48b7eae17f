"""The results as Markdown, written between two markers of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.evaluation import precisions
from train.evaluation.questions import NEW
from train.evaluation.results import Misrecognised, Mistake, Results, Share, VoiceFigures


@dataclass(frozen=True)
class Markers:
    """The lines of a page between which a command writes."""

    begin: str
    end: str


MARKERS = Markers("<!-- evaluation: written by make eval-nano -->", "<!-- /evaluation -->")

_UNDERSTANDING = (
    "**Understanding.** A reply counts as right when it is, letter for letter, the answer of the question's intent."
)
_SPEECH = (
    "**Speech.** Replies beside the synthetic originals of the same sentences, both transcribed by Whisper base."
    " Likeness is the cosine of speaker embeddings (Resemblyzer) with the prompt of the same voice, and with the prompt"
    " of the closest other voice."
)
_SPEECH_HEAD = (
    *("voice", "replies (words)", "word errors", "of originals", "likeness to own", "of originals"),
    *("to closest other", "own is nearest", "of originals", "ends by EOS"),
)
_PRECISIONS = (
    "**By precision.** The same questions and sentences in each, through the services. int8 computes in float32, int4"
    " in bfloat16. Codes are drawn with one seed."
)
_MIN_ACCURACY = 0.90
_MAX_WER = 0.15
_MAX_BEST_WER = 0.08
_MIN_OWN = 0.78
_MIN_NEAREST = 0.95
_MIN_EOS = 0.99
_EXAMPLES = 8


def write_between(markers: Markers, page: Path, text: str) -> None:
    """Replace the text between the markers of a page. Raises `ValueError` for a page without markers."""
    content = page.read_text(encoding="utf-8")
    before, begin, rest = content.partition(markers.begin)
    _, end, after = rest.partition(markers.end)
    if not begin or not end:
        raise ValueError(f"expected the lines {markers.begin} and {markers.end} in {page}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def report(results: Results, picture: str = "", of_precisions: Mapping[str, Results] | None = None) -> str:
    """All tables, the aims first.

    `picture` is the path of the spectrograms as seen from the page, or empty. `of_precisions` has the results of
    several precisions, if there are several.
    """
    parts = [
        table(("aim", "wanted", "measured", "met"), _aims(results)),
        *([_PRECISIONS, table(precisions.HEAD, precisions.rows(of_precisions))] if of_precisions else []),
        _UNDERSTANDING,
        table(("questions", "right", "asked"), map(_share_row, results.questions)),
        table(("held-out voice that asks", "right", "asked"), map(_share_row, results.asking_voices)),
        table((f"{NEW}, recorded", "right", "asked"), map(_share_row, results.degraded)),
        table(("in a conversation", "right", "asked"), map(_share_row, results.conversations)),
        _SPEECH,
        table(_SPEECH_HEAD, _voice_rows(results)),
        f"![Spectrograms of one sentence: original beside reply, in every voice]({picture})" if picture else "",
        f"**The taco question**, in the recording of a person, answered in the voice {results.taco.voice}:"
        f" “{results.taco.reply}” Whisper's transcript: “{results.taco.transcript}”",
        *_examples(results.mistakes, results.misrecognised),
        f"The checkpoint's files take {results.checkpoint_bytes / 1e6:.1f} MB.",
    ]
    return "\n\n".join(part for part in parts if part)


def _aims(results: Results) -> list[Sequence[str]]:
    accuracy = next((share for share in results.questions if share.name == NEW), None)
    every = results.replies[-1]
    best = min(results.replies[:-1], key=lambda row: row.word_error_rate)
    eos = every.ended_by_eos or 0.0
    rows = [
        (
            "word error rate of replies",
            f"≤ {_MAX_WER:.0%}",
            percent(every.word_error_rate),
            every.word_error_rate <= _MAX_WER,
        ),
        (
            f"word error rate in the best voice ({best.voice})",
            f"≤ {_MAX_BEST_WER:.0%}",
            percent(best.word_error_rate),
            best.word_error_rate <= _MAX_BEST_WER,
        ),
        ("likeness to the right voice", f"≥ {_MIN_OWN}", f"{every.own:.2f}", every.own >= _MIN_OWN),
        (
            "right voice is the nearest",
            f"≥ {_MIN_NEAREST:.0%}",
            percent(every.own_is_nearest),
            every.own_is_nearest >= _MIN_NEAREST,
        ),
        ("replies that end by EOS", f"≥ {_MIN_EOS:.0%}", percent(eos), eos >= _MIN_EOS),
    ]
    if accuracy is not None:
        measured = f"{percent(accuracy.rate)} of {accuracy.count}"
        rows.insert(
            0,
            (f"right answers, {NEW}", f"≥ {_MIN_ACCURACY:.0%}", measured, accuracy.rate >= _MIN_ACCURACY),
        )
    return [(aim, wanted, measured, "yes" if met else "**no**") for aim, wanted, measured, met in rows]


def _voice_rows(results: Results) -> Iterable[Sequence[str]]:
    originals = {row.voice: row for row in results.originals}
    for row in results.replies:
        yield _voice_row(row, originals.get(row.voice))
    if results.answers is not None:
        yield _voice_row(results.answers, None)


def _voice_row(row: VoiceFigures, original: VoiceFigures | None) -> Sequence[str]:
    return (
        row.voice,
        f"{row.recordings} ({row.words})",
        percent(row.word_error_rate),
        percent(original.word_error_rate) if original else "",
        f"{row.own:.2f}",
        f"{original.own:.2f}" if original else "",
        f"{row.closest_other:.2f}",
        percent(row.own_is_nearest),
        percent(original.own_is_nearest) if original else "",
        percent(row.ended_by_eos) if row.ended_by_eos is not None else "",
    )


def _examples(mistakes: list[Mistake], misrecognised: list[Misrecognised]) -> Iterable[str]:
    if mistakes:
        step = max(1, len(mistakes) // _EXAMPLES)
        yield "Some of the wrong answers:"
        yield table(
            ("asked", "voice", "replied"),
            (
                (one.question, one.voice, one.reply.replace("\n", " ") or "(nothing)")
                for one in mistakes[::step][:_EXAMPLES]
            ),
        )
    if misrecognised:
        yield "The replies with the most word errors:"
        yield table(
            ("voice", "text", "transcript"),
            ((one.voice, one.text, one.transcript or "(nothing)") for one in misrecognised[:_EXAMPLES]),
        )


def _share_row(share: Share) -> Sequence[str]:
    return share.name, percent(share.rate), str(share.count)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; nothing without rows."""
    listed = list(rows)
    if not listed:
        return ""
    lines = [head, ["---"] * len(head), *listed]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def percent(share: float) -> str:
    """A share with one decimal of a percent."""
    return f"{share:.1%}"
