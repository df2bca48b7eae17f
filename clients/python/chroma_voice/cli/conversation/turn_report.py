"""What `chroma-voice talk` prints of its turns, and the files that it writes beside the sound."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from chroma_voice.cli.conversation import waterfall
from chroma_voice.cli.conversation.asked_turn import AskedTurn, ReceivedTurn
from chroma_voice.cli.conversation.chat_view import OUT_OF_DOMAIN
from chroma_voice.cli.conversation.reply_view import ReplyView
from chroma_voice.cli.conversation.sound_file import STDOUT


class Report:
    """Prints turns: for people, as lines of JSON, or the text of the replies alone.

    `to_stderr`: standard output is for the sound.
    """

    def __init__(self, *, as_json: bool, quiet: bool, to_stderr: bool) -> None:
        self._as_json = as_json
        self._is_short = as_json or quiet
        self._console = Console(highlight=False, soft_wrap=True, emoji=False, stderr=to_stderr)
        self._warnings = Console(highlight=False, soft_wrap=True, emoji=False, stderr=True)

    def note(self, line: str) -> None:
        """Print a line for people."""
        if not self._is_short:
            self._console.print(line, markup=False)

    def begin(self, turn: AskedTurn) -> None:
        """Print what is asked."""
        if turn.recording:
            self.note(f"asking {turn.path} ({turn.recording.duration_s:.1f} s)")

    def view(self) -> ReplyView:
        """Return the view of the next reply."""
        return ReplyView(Console(quiet=True) if self._is_short else self._console)

    def end(self, received: ReceivedTurn, out: Path, session_id: str) -> None:
        """Save the text and the picture, and print the result. Raises the error of a failed turn."""
        done = received.done
        done.raise_for_error()
        text_file = picture = None
        if out != STDOUT:
            text_file = out.with_suffix(".txt")
            text_file.write_text(done.text + "\n", encoding="utf-8")
            picture = out.with_suffix(".png")
            turn = waterfall.Turn.of(done, delivered_s=received.first_sound_s)
            picture = picture if _save_picture(turn, picture) else None
        if done.out_of_domain and not self._as_json:
            self._warnings.print(OUT_OF_DOMAIN, markup=False)
        if self._as_json:
            self._print_json(received, out, session_id)
        elif self._is_short:
            self._console.print(done.text, markup=False)
        else:
            self._print_all(received, out, text_file, picture)

    def _print_json(self, received: ReceivedTurn, out: Path, session_id: str) -> None:
        done = received.done
        turn = {
            "session_id": session_id,
            "turn_id": done.turn_id,
            "outcome": done.outcome,
            "text": done.text,
            "sound": str(out) if received.first_sound_s is not None else None,
            "sound_s": done.output_audio_s,
            "first_sound_s": received.first_sound_s,
            "last_sound_s": received.last_sound_s,
            "speech_end": done.speech_end,
            "recorded": done.recorded,
            "out_of_domain": list(done.out_of_domain),
            "timings": asdict(done.timings),
        }
        self._console.print(json.dumps(turn, ensure_ascii=False), markup=False)

    def _print_all(self, received: ReceivedTurn, out: Path, text_file: Path | None, picture: Path | None) -> None:
        done = received.done
        if received.first_sound_s is not None:
            self.note(f"sound      {out} ({done.output_audio_s:.2f} s)")
        if text_file:
            self.note(f"text       {text_file}")
        if picture:
            self.note(f"waterfall  {picture}")
        self.note("")
        for line in waterfall.text_lines(waterfall.Turn.of(done, delivered_s=received.first_sound_s)):
            self.note(line)
        self.note("")
        if received.first_sound_s is None or received.last_sound_s is None:
            self.note("an empty reply: the model ended its speech at once")
            return
        self.note(
            f"first sound after {received.first_sound_s * 1000:.0f} ms; "
            f"{done.output_audio_s:.2f} s of speech in {received.last_sound_s:.2f} s, "
            f"RTF {received.last_sound_s / done.output_audio_s:.3f}"
        )
        if done.speech_end not in ("eos", "given"):
            self.note(f"the speech ended by {done.speech_end or 'interruption'}, not by its own end")
        if not done.recorded:
            self.note("the turn was not recorded: the store was away")


def _save_picture(turn: waterfall.Turn, path: Path) -> bool:
    """Save the waterfall as a PNG. False, and nothing is saved, without matplotlib or without any stage."""
    try:
        from chroma_voice.cli.conversation import waterfall_picture
    except ImportError:
        return False
    if turn.stages:
        waterfall_picture.save(turn, path)
    return bool(turn.stages)
