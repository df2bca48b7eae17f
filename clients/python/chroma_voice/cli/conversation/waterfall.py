"""The waterfall of one turn: the times of each stage, as text and as a picture."""

from __future__ import annotations

from dataclasses import dataclass

from chroma_voice.events import TurnDone

_TEXT_COLUMNS = 56


@dataclass(frozen=True)
class Stage:
    """One stage of a turn. Times in seconds since the commit: of its first input, its first result, its last result."""

    name: str
    owner: str
    color: str
    begin_s: float
    first_s: float
    last_s: float


@dataclass(frozen=True)
class Turn:
    """The content of a waterfall: the stages in order, and the totals. `sound_s` is the length of the speech."""

    stages: tuple[Stage, ...]
    first_sound_s: float | None
    last_sound_s: float
    sound_s: float

    @classmethod
    def of(cls, done: TurnDone, *, delivered_s: float | None) -> Turn:
        """Make it from a turn's result and the time at which the client received the first sound.

        Stages that did not begin are left out.
        """
        times = done.timings
        marks = (
            ("hearing", "reasoner", "#7c6fd0", 0.0, times.heard_s, times.heard_s),
            ("thinking", "reasoner", "#3d7edb", times.heard_s or 0.0, times.first_thought_s, times.last_thought_s),
            ("speaking", "speech generator", "#159a8c", times.first_thought_s, times.first_frame_s, times.last_frame_s),
            ("sounding", "codec", "#e0922f", times.first_frame_s, times.first_audio_s, times.last_audio_s),
            ("delivery", "gateway to you", "#c9527f", times.first_audio_s, delivered_s, delivered_s),
        )
        stages = tuple(
            Stage(name, owner, color, begin, max(first, begin), max(last or first, first, begin))
            for name, owner, color, begin, first, last in marks
            if begin is not None and first is not None
        )
        first_sound_s = delivered_s if delivered_s is not None else times.first_audio_s
        last_sound_s = max((stage.last_s for stage in stages), default=0.0)
        return cls(stages, first_sound_s, last_sound_s, done.output_audio_s)


def text_lines(turn: Turn) -> list[str]:
    """Return the lines for a terminal: dots until a stage's first result, blocks until its last result."""
    scale = _TEXT_COLUMNS / max(turn.last_sound_s, 1e-9)
    lines = [f"{'':<9} {'':<{_TEXT_COLUMNS + 1}}    first       last"]
    for stage in turn.stages:
        begin, first, last = (round(at * scale) for at in (stage.begin_s, stage.first_s, stage.last_s))
        solid_from = first if stage.last_s > stage.first_s else begin
        bar = " " * begin + "·" * (solid_from - begin) + "█" * max(1, last - solid_from)
        lines.append(f"{stage.name:<9} {bar:<{_TEXT_COLUMNS + 1}} {_seconds(stage.first_s)}   {_seconds(stage.last_s)}")
    return lines


def _seconds(value: float) -> str:
    return f"{value * 1000:5.0f} ms" if value < 1 else f"{value:5.2f} s "
