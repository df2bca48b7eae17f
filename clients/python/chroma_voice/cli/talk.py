"""`chroma-voice talk`: one question, one spoken reply."""

from __future__ import annotations

import asyncio
import contextlib
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from chroma_voice.cli import waterfall
from chroma_voice.cli.gateway_address import GatewayOptions, calls_gateway
from chroma_voice.cli.question import Recording, read_recording
from chroma_voice.cli.reply_view import ReplyView
from chroma_voice.cli.up import RANDOM_WEIGHTS
from chroma_voice.conversation import Conversation
from chroma_voice.errors import ChromaError
from chroma_voice.events import SAMPLE_RATE_HZ, AudioDelta, TextDelta, TurnDone
from chroma_voice.session import Sampling

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class ReceivedTurn:
    """A finished turn, with the times at which this client received its sound, in seconds since the commit."""

    done: TurnDone
    first_sound_s: float | None
    last_sound_s: float | None


@calls_gateway
def talk(
    question: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="The question: any common audio file.")
    ] = None,
    voice: Annotated[str, typer.Option(help="Id of the voice that replies.")] = "",
    out: Annotated[Path, typer.Option(help="Where the reply goes; text and picture are saved beside it.")] = Path(
        "reply.wav"
    ),
    text: Annotated[str, typer.Option(help="A question as text, alone or after the recording.")] = "",
    say: Annotated[str, typer.Option(help="Instead of a question: a text that the voice speaks.")] = "",
    verbatim: Annotated[
        bool, typer.Option("--verbatim", help="Speak --say as it is written: leave markdown and numbers alone.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="The system prompt. Default: the checkpoint's.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Seconds of speech in the reply, at most.")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the most likely code.")] = False,
    temperature: Annotated[float | None, typer.Option(help="Above 0. Default: the checkpoint's.")] = None,
    top_k: Annotated[int | None, typer.Option(help="1 or more. Default: the checkpoint's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the voice's random numbers.")] = None,
    *,
    gateway: GatewayOptions,
) -> None:
    """Ask one question and save the spoken reply, its text and a waterfall picture of the turn."""
    if not voice:
        raise typer.BadParameter("name the voice that replies: see `chroma-voice voice list`", param_hint="--voice")
    if bool(say) == bool(question or text):
        raise typer.BadParameter("give a recording or --text to ask, or --say alone", param_hint="QUESTION")
    found = gateway.find()
    recording = read_recording(question) if question else None
    sampling = None
    if greedy or temperature is not None or top_k is not None or seed is not None:
        sampling = Sampling(greedy=greedy, temperature=temperature, top_k=top_k, seed=seed)

    async def run() -> ReceivedTurn:
        async with (
            gateway.client() as client,
            client.conversation(
                voice=voice,
                system_prompt=system,
                sampling=sampling,
                max_reply_s=max_seconds,
                input_rate_hz=recording.sample_rate_hz if recording else None,
                max_lead_s=0.0,
            ) as conversation,
        ):
            if say:
                await conversation.say(say, verbatim=verbatim)
            else:
                await _ask(conversation, recording, text)
            return await _receive(conversation, out)

    if found.random_weights:
        console.print(f"note: {RANDOM_WEIGHTS}", markup=False)
    if recording and question:
        console.print(f"asking {question} ({recording.duration_s:.1f} s)", markup=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    received = asyncio.run(run())
    _conclude(received, out)


async def _ask(conversation: Conversation, recording: Recording | None, text: str) -> None:
    if recording:
        await conversation.send_audio(recording.data)
    if text:
        await conversation.send_text(text)
    await conversation.commit()


async def _receive(conversation: Conversation, out: Path) -> ReceivedTurn:
    """Receive the reply, show it as it comes and save its sound to `out`."""
    committed = time.monotonic()
    first_sound_s = last_sound_s = None
    with ReplyView(console) as view, _wav_file(out) as sound:
        async for event in conversation.reply():
            match event:
                case TextDelta():
                    view.add_text(event.text)
                case AudioDelta():
                    last_sound_s = time.monotonic() - committed
                    first_sound_s = last_sound_s if first_sound_s is None else first_sound_s
                    sound.writeframes(event.data)
                    view.add_sound(event.duration_s)
                case TurnDone():
                    return ReceivedTurn(event, first_sound_s, last_sound_s)
    raise ChromaError("the reply ended without a result")


def _save_picture(turn: waterfall.Turn, path: Path) -> bool:
    """Save the waterfall as a PNG. False, and nothing is saved, without matplotlib or without any stage."""
    try:
        from chroma_voice.cli import waterfall_picture
    except ImportError:
        return False
    if turn.stages:
        waterfall_picture.save(turn, path)
    return bool(turn.stages)


def _conclude(received: ReceivedTurn, out: Path) -> None:
    """Save the text and the picture, and print their paths. Raises the error of a failed turn."""
    done = received.done
    if received.first_sound_s is not None:
        console.print(f"sound      {out} ({done.output_audio_s:.2f} s)", markup=False)
    elif done.error:
        out.unlink()
    done.raise_for_error()
    text_file = out.with_suffix(".txt")
    text_file.write_text(done.text + "\n")
    console.print(f"text       {text_file}", markup=False)
    picture = out.with_suffix(".png")
    turn = waterfall.Turn.of(done, delivered_s=received.first_sound_s)
    if _save_picture(turn, picture):
        console.print(f"waterfall  {picture}", markup=False)
    console.print()
    for line in waterfall.text_lines(turn):
        console.print(line, markup=False)
    console.print()
    if received.first_sound_s is None or received.last_sound_s is None:
        console.print("an empty reply: the model ended its speech at once")
        return
    console.print(
        f"first sound after {received.first_sound_s * 1000:.0f} ms; "
        f"{done.output_audio_s:.2f} s of speech in {received.last_sound_s:.2f} s, "
        f"RTF {received.last_sound_s / done.output_audio_s:.3f}",
        markup=False,
    )
    if done.speech_end not in ("eos", "given"):
        console.print(f"the speech ended by {done.speech_end or 'interruption'}, not by its own end", markup=False)
    if not done.recorded:
        console.print("the turn was not recorded: the store was away", markup=False)


@contextlib.contextmanager
def _wav_file(path: Path) -> Iterator[wave.Wave_write]:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        yield file
