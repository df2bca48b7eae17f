"""`chroma-voice talk`: questions from files and texts, each with a spoken reply."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Annotated

import typer

from chroma_voice.cli.conversation.asked_turn import AskedTurn, ReceivedTurn
from chroma_voice.cli.conversation.question import read_recording
from chroma_voice.cli.conversation.sound_file import STDOUT, SUFFIXES, SoundFile, check_place
from chroma_voice.cli.conversation.turn_report import Report
from chroma_voice.cli.gateway_address import GatewayOptions, calls_gateway
from chroma_voice.cli.launcher.up import RANDOM_WEIGHTS
from chroma_voice.conversation import Conversation
from chroma_voice.errors import ChromaError, FailedPrecondition
from chroma_voice.events import AudioDelta, TextDelta, TurnDone
from chroma_voice.microphone import Speaker
from chroma_voice.session import Sampling


@calls_gateway
def talk(
    questions: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[QUESTION]...", exists=True, dir_okay=False, help="Questions: common audio files, a turn each."
        ),
    ] = None,
    voice: Annotated[str, typer.Option(help="Id of the voice that replies. Default: the server's.")] = "",
    out: Annotated[
        Path,
        typer.Option(
            help=f"Where the reply goes: {SUFFIXES}, or - for WAV on standard output. Text and picture are saved "
            "beside it. With several turns their numbers are added."
        ),
    ] = Path("reply.wav"),
    text: Annotated[
        list[str] | None, typer.Option(help="A question as text, alone or after the recording of the same turn.")
    ] = None,
    say: Annotated[list[str] | None, typer.Option(help="Instead of a question: a text that the voice speaks.")] = None,
    verbatim: Annotated[
        bool, typer.Option("--verbatim", help="Speak --say as it is written: leave markdown and numbers alone.")
    ] = False,
    play: Annotated[bool, typer.Option("--play", help="Play the reply on the loudspeaker while it comes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each turn as one line of JSON, and no text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the reply's text and nothing else.")] = False,
    session: Annotated[str, typer.Option(help="Id of a session to go on with.")] = "",
    system: Annotated[str | None, typer.Option(help="The system prompt. Default: the checkpoint's.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Seconds of speech in the reply, at most.")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the most likely code.")] = False,
    temperature: Annotated[float | None, typer.Option(help="Above 0. Default: the checkpoint's.")] = None,
    top_k: Annotated[int | None, typer.Option(help="1 or more. Default: the checkpoint's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the voice's random numbers.")] = None,
    *,
    gateway: GatewayOptions,
) -> None:
    """Ask one question or several, and save each spoken reply, its text and a waterfall picture of the turn."""
    if bool(say) == bool(questions or text):
        raise typer.BadParameter("give a recording or --text to ask, or --say alone", param_hint="QUESTION")
    if as_json and out == STDOUT:
        raise typer.BadParameter("--json needs standard output: name a file for the sound", param_hint="--out")
    check_place(out)
    recordings = [(path, read_recording(path)) for path in questions or ()]
    found = gateway.find()
    turns = [AskedTurn(say=words) for words in say or ()]
    turns += [
        AskedTurn(path=asked[0] if asked else None, recording=asked[1] if asked else None, text=words or "")
        for asked, words in zip_longest(recordings, text or ())
    ]
    places = [out] if len(turns) == 1 or out == STDOUT else list(numbered(out, len(turns)))
    report = Report(as_json=as_json, quiet=quiet, to_stderr=out == STDOUT)
    sampling = None
    if greedy or temperature is not None or top_k is not None or seed is not None:
        sampling = Sampling(greedy=greedy, temperature=temperature, top_k=top_k, seed=seed)

    async def run() -> None:
        session_id, number = session, 0
        async with gateway.client() as client:
            with Speaker() if play else contextlib.nullcontext() as speaker, SoundFile(STDOUT) as stream:
                for rate_hz, same_rate in groupby(turns, key=lambda turn: turn.rate_hz):
                    async with client.conversation(
                        voice=voice,
                        session_id=session_id,
                        system_prompt=system,
                        sampling=sampling,
                        max_reply_s=max_seconds,
                        input_rate_hz=rate_hz,
                        max_lead_s=0.0,
                    ) as conversation:
                        session_id = conversation.session.session_id
                        for turn in same_rate:
                            place = places[min(number, len(places) - 1)]
                            number += 1
                            report.begin(turn)
                            await turn.ask(conversation, verbatim=verbatim)
                            with contextlib.nullcontext(stream) if out == STDOUT else SoundFile(place) as sound:
                                received = await _receive(conversation, sound, speaker, report)
                                report.end(received, place, session_id)
                            if speaker is not None:
                                await speaker.finish()

    if found.random_weights:
        report.note(f"note: {RANDOM_WEIGHTS}")
    asyncio.run(run())


def numbered(out: Path, count: int) -> Iterator[Path]:
    """Yield the files of `count` turns: reply-1.wav, reply-2.wav and so on."""
    for number in range(1, count + 1):
        yield out.with_name(f"{out.stem}-{number}{out.suffix}")


async def _receive(
    conversation: Conversation, sound: SoundFile, speaker: Speaker | None, report: Report
) -> ReceivedTurn:
    """Receive the reply, show it as it comes, write its sound, and play it if there is a loudspeaker."""
    committed = time.monotonic()
    first_sound_s = last_sound_s = None
    with report.view() as view:
        if speaker is not None:
            speaker.begin()
        async for event in conversation.reply():
            match event:
                case TextDelta():
                    view.add_text(event.text)
                case AudioDelta():
                    last_sound_s = time.monotonic() - committed
                    first_sound_s = last_sound_s if first_sound_s is None else first_sound_s
                    sound.write(event.data)
                    if speaker is not None:
                        with contextlib.suppress(FailedPrecondition):  # finish() tells, when the reply is saved
                            speaker.play(event.data)
                    view.add_sound(event.duration_s)
                case TurnDone():
                    return ReceivedTurn(event, first_sound_s, last_sound_s)
    raise ChromaError("the reply ended without a result")
