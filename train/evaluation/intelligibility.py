"""Word error rates of recordings by voice, with Whisper: `python -m train.evaluation.intelligibility`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from chroma_voice.eval.recognition.transcription import Recording, Transcribed, read_recordings, spread, transcribe
from chroma_voice.eval.recognition.whisper import Whisper, whisper_base
from chroma_voice.eval.recognition.word_errors import together
from train.evaluation.ask import MAX_TRANSCRIPT_TOKENS
from train.optim.training_loop import ROOT

console = Console(width=140, highlight=False)


def main(
    sources: Annotated[
        list[Path], typer.Argument(help="Manifests (.jsonl with path, voice, text), sound files or folders of them.")
    ],
    texts: Annotated[
        Path | None,
        typer.Option(
            help="A manifest with the texts of sound files. It knows them by folder and name, VOICE/NAME.wav."
        ),
    ] = None,
    voice: Annotated[list[str] | None, typer.Option(help="Only these voices.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="Only these roles of a manifest, such as reply.")] = None,
    per_voice: Annotated[int, typer.Option(help="At most this many of each voice, evenly spread; 0: all.")] = 0,
    worst: Annotated[int, typer.Option(help="How many of the worst recordings of each voice to print.")] = 5,
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
) -> None:
    """Print the word error rate of each voice with Whisper base, and its worst recordings.

    The text of a sound file is in --texts or in the file of the same name with the suffix .txt.
    """
    recordings = [recording for source in sources for recording in _recordings(source, texts, role)]
    if voice:
        recordings = [recording for recording in recordings if recording.voice in voice]
    chosen = spread(recordings, per_voice)
    if not chosen:
        raise typer.BadParameter("expected recordings, found none")
    whisper = Whisper(whisper_base(root / "whisper-base"), max_tokens=MAX_TRANSCRIPT_TOKENS)
    transcribed = list(track(transcribe(chosen, whisper), "transcribing", total=len(chosen), console=console))
    for name in sorted({one.recording.voice for one in transcribed}):
        _print_voice(name, [one for one in transcribed if one.recording.voice == name], worst)
    _print_line("all", transcribed)


def _recordings(source: Path, texts: Path | None, roles: list[str] | None) -> list[Recording]:
    if source.suffix == ".jsonl":
        return read_recordings(source, roles)
    files = sorted(source.rglob("*.wav")) if source.is_dir() else [source]
    known = {_name_of(one.path): one.text for one in read_recordings(texts)} if texts else {}
    return [
        Recording(file, file.parent.name, known.get(_name_of(file)) or file.with_suffix(".txt").read_text("utf-8"))
        for file in files
    ]


def _name_of(file: Path) -> tuple[str, str]:
    return file.parent.name, file.name


def _print_voice(name: str, transcribed: list[Transcribed], worst: int) -> None:
    _print_line(name, transcribed)
    for one in sorted(transcribed, key=lambda one: one.errors.rate, reverse=True)[:worst]:
        if one.errors.wrong:
            console.print(f"  {one.errors.rate:7.1%}  {one.recording.path.name}  {one.recording.text}", markup=False)
            console.print(f"      transcript: {one.transcript}", markup=False)


def _print_line(name: str, transcribed: list[Transcribed]) -> None:
    errors = together(one.errors for one in transcribed)
    console.print(f"{name}: WER {errors.rate:.1%}  ({errors.words} words, {len(transcribed)} recordings)", markup=False)


if __name__ == "__main__":
    typer.run(main)
