"""`chroma-voice voice`: commands for the enrolled voices."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from chroma_voice.cli.gateway_address import DEFAULT_STATE, Gateway, State, find_gateway
from chroma_voice.client import Client
from chroma_voice.errors import NotFound
from chroma_voice.voice import Voice

app = typer.Typer(no_args_is_help=True, help="Enrol, list, show and remove voices.")
console = Console(highlight=False)

VoiceId = Annotated[str, typer.Argument(metavar="VOICE", help="Id: 1 to 64 of a-z, 0-9, '-' and '_'.")]


@app.command()
def add(
    voice: VoiceId,
    recording: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="WAV, FLAC, OGG or MP3; 1 to 30 s of one speaker.")
    ],
    transcript: Annotated[str, typer.Option(help="What the recording says, word for word.")],
    consent: Annotated[str, typer.Option(help="Who agreed to the cloning of this voice, and how.")],
    name: Annotated[str, typer.Option(help="Display name. Default: the id.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Remove a voice of this id first.")] = False,
    gateway: Gateway = "",
    state: State = DEFAULT_STATE,
) -> None:
    """Enrol a voice from a recording and its transcript."""

    async def run() -> Voice:
        async with Client(find_gateway(gateway, state).address) as client:
            if replace:
                with contextlib.suppress(NotFound):
                    await client.delete_voice(voice)
            return await client.create_voice(
                voice, audio_file=recording.read_bytes(), transcript=transcript, consent=consent, display_name=name
            )

    enrolled = asyncio.run(run())
    console.print(f"enrolled voice {enrolled.voice_id}: {enrolled.duration_s:.1f} s of speech", markup=False)


@app.command("list")
def list_voices(gateway: Gateway = "", state: State = DEFAULT_STATE) -> None:
    """List the voices."""

    async def run() -> list[Voice]:
        async with Client(find_gateway(gateway, state).address) as client:
            return [voice async for voice in client.list_voices()]

    voices = asyncio.run(run())
    table = Table("voice", "name", "seconds", "enrolled", "transcript", box=None, pad_edge=False)
    for voice in voices:
        table.add_row(
            voice.voice_id,
            voice.display_name,
            f"{voice.duration_s:.1f}",
            f"{voice.created:%Y-%m-%d %H:%M}",
            voice.transcript,
        )
    console.print(table if voices else "no voices yet: `chroma-voice voice add`")


@app.command()
def show(voice: VoiceId, gateway: Gateway = "", state: State = DEFAULT_STATE) -> None:
    """Show one voice."""

    async def run() -> Voice:
        async with Client(find_gateway(gateway, state).address) as client:
            return await client.get_voice(voice)

    found = asyncio.run(run())
    for label, value in (
        ("voice", found.voice_id),
        ("name", found.display_name),
        ("recording", f"{found.duration_s:.2f} s"),
        ("transcript", found.transcript),
        ("consent", found.consent),
        ("enrolled", f"{found.created:%Y-%m-%d %H:%M:%S} UTC"),
    ):
        console.print(f"{label:<11}{value}", markup=False, soft_wrap=True)


@app.command()
def remove(voice: VoiceId, gateway: Gateway = "", state: State = DEFAULT_STATE) -> None:
    """Delete a voice."""

    async def run() -> None:
        async with Client(find_gateway(gateway, state).address) as client:
            await client.delete_voice(voice)

    asyncio.run(run())
    console.print(f"removed voice {voice}", markup=False)
