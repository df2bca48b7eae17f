"""The report of an evaluation as one page without any other file: it can be mailed, opened from a disk and printed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import soundfile

from chroma_voice import __version__
from chroma_voice.bench.report.charts import percentile_curves
from chroma_voice.bench.report.drawing import BLUE, GREEN, MUTED, ORANGE
from chroma_voice.bench.report.page import Card
from chroma_voice.bench.report.results import machine
from chroma_voice.eval.records import ReplyRecord
from chroma_voice.eval.report import charts
from chroma_voice.eval.report.results import Results
from chroma_voice.eval.report.tables import (
    FIGURE_HEADERS,
    QUALITY_HEADERS,
    facts,
    figure_rows,
    percent,
    quality_rows,
    similarity,
)
from chroma_voice.eval.summary import REFERENCES

MAX_ROWS = 100
"""Replies in the table; of more, those with the most word errors."""
MAX_PLAYERS = 12
"""Replies whose sound is in the page: a second of speech has about 30 kB there."""


@dataclass(frozen=True)
class Row:
    """One reply in the table."""

    number: int
    question: str
    voice: str
    text: str
    transcript: str
    word_errors: str
    similarity: str
    seconds: str
    sound: str = ""
    """The sound as a URL; empty: it is in the folder of the results only."""


def render(results: Results, folder: Path) -> str:
    """Return the page. `folder` has the WAV files. Everything that came from outside is escaped, but our drawings."""
    loader = jinja2.ChoiceLoader(
        [jinja2.PackageLoader(package, ".") for package in ("chroma_voice.eval.report", "chroma_voice.bench.report")]
    )
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html")
    heard = [record for record in results.replies if record.is_reply]
    waits = [record.first_sound_s for record in heard if record.first_sound_s is not None]
    return template.render(
        target=results.target,
        pairs=results.pairs,
        started=results.started,
        machine=machine(),
        version=__version__,
        broken=results.broken,
        cards=cards(results),
        facts=facts(results.summary),
        quality_headers=QUALITY_HEADERS,
        quality=quality_rows(results.summary),
        figure_headers=FIGURE_HEADERS,
        figures=figure_rows(results.summary),
        similarity_chart=charts.strips(
            "Speaker similarity", similarity_groups(results), "cosine of speaker embeddings"
        ),
        error_chart=charts.bars("Word errors", word_errors(results), "wrong words for each 100 words"),
        wait_chart=percentile_curves([("first sound", waits)]) if waits else "",
        rows=rows(heard, folder),
        left_out=max(0, len(heard) - MAX_ROWS),
        failed=[record for record in results.replies if not record.is_reply][:MAX_ROWS],
        settings=results.settings,
    )


def cards(results: Results) -> list[Card]:
    """Return the figures at the top of the page."""
    summary = results.summary
    wait_s = summary.waits["first_sound_s"].median
    return [
        Card(percent(summary.overall.word_error_rate), "word error rate"),
        Card(similarity(summary.overall.similarity.mean), "speaker similarity, mean"),
        Card("-" if wait_s is None else f"{wait_s * 1e3:,.0f} ms", "first sound, median"),
        Card(str(summary.replies), "replies"),
        Card(str(summary.failed), "failed pairs", summary.failed > 0),
    ]


def similarity_groups(results: Results) -> list[charts.Group]:
    """Return the similarities of replies to their own voice, and of the reference points."""
    own = [record.similarity for record in results.replies if record.similarity is not None]
    groups: list[charts.Group] = [("replies to their own voice", own, BLUE)]
    for kind, colour in (("itself", GREEN), ("codec", ORANGE), ("other", MUTED)):
        values = [one.similarity for one in results.references.found if one.kind == kind and one.similarity is not None]
        groups.append((REFERENCES[kind], values, colour))
    return groups


def word_errors(results: Results) -> list[tuple[str, float]]:
    """Return the word error rates, in per cent, of the groups that have one."""
    summary = results.summary
    voices = summary.by_voice if len(summary.by_voice) > 1 else []
    groups = (summary.overall, *voices, *summary.references)
    return [(one.name, one.word_error_rate * 100) for one in groups if one.word_error_rate is not None]


def rows(heard: Sequence[ReplyRecord], folder: Path) -> list[Row]:
    """Return the replies of the table, the worst first, the first ones with their sound."""
    worst = sorted(heard, key=lambda one: (-(one.word_error_rate or 0.0), one.similarity or 0.0, one.number))
    return [
        Row(
            record.number,
            record.question,
            record.voice,
            record.text,
            record.transcript or "",
            percent(record.word_error_rate),
            similarity(record.similarity),
            "-" if record.sound is None else f"{record.sound.seconds:.1f} s",
            _sound(folder / record.file) if place < MAX_PLAYERS else "",
        )
        for place, record in enumerate(worst[:MAX_ROWS])
    ]


def _sound(file: Path) -> str:
    """The sound of a WAV file as a URL, in FLAC; empty when the file is gone."""
    if not file.is_file():
        return ""
    samples, rate_hz = soundfile.read(file, dtype="int16")
    packed = io.BytesIO()
    soundfile.write(packed, samples, rate_hz, format="FLAC")
    return f"data:audio/flac;base64,{base64.b64encode(packed.getvalue()).decode()}"
