"""`chroma-voice voice`: commands for the enrolled voices."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from chroma_voice.cli.gateway_address import GatewayOptions, calls_gateway
from chroma_voice.cli.listing import print_list
from chroma_voice.consent import Consent
from chroma_voice.errors import NotFound
from chroma_voice.voice import Voice

app = typer.Typer(
    no_args_is_help=True, help="Enrol, list, show and remove voices, and see and revoke the consents to them."
)
console = Console(highlight=False)

VoiceId = Annotated[str, typer.Argument(metavar="VOICE", help="Id: 1 to 64 of a-z, 0-9, '-' and '_'.")]


@app.command()
@calls_gateway
def add(
    voice: VoiceId,
    recording: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="An audio file; 1 to 30 s of one speaker.")
    ],
    transcript: Annotated[str, typer.Option(help="What the recording says, word for word.")],
    consent: Annotated[str, typer.Option(help="Who agreed to the cloning of this voice, and how.")],
    consent_subject: Annotated[str, typer.Option(help="The person who agreed.")] = "",
    name: Annotated[str, typer.Option(help="Display name. Default: the id.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Remove a voice of this id first.")] = False,
    *,
    gateway: GatewayOptions,
) -> None:
    """Enrol a voice from a recording and its transcript."""

    async def run() -> Voice:
        async with gateway.client() as client:
            if replace:
                with contextlib.suppress(NotFound):
                    await client.delete_voice(voice)
            return await client.create_voice(
                voice,
                audio_file=recording.read_bytes(),
                transcript=transcript,
                consent=consent,
                consent_subject=consent_subject,
                display_name=name,
            )

    enrolled = asyncio.run(run())
    console.print(f"enrolled voice {enrolled.voice_id}: {enrolled.duration_s:.1f} s of speech", markup=False)


@app.command("list")
@calls_gateway
def list_voices(gateway: GatewayOptions) -> None:
    """List the voices."""

    async def run() -> list[Voice]:
        async with gateway.client() as client:
            return [voice async for voice in client.list_voices()]

    voices = asyncio.run(run())
    if not voices:
        console.print("no voices yet: `chroma-voice voice add`")
        return
    print_list(
        ("voice", "name", "seconds", "enrolled", "transcript"),
        (
            (it.voice_id, it.display_name, f"{it.duration_s:.1f}", f"{it.created:%Y-%m-%d %H:%M}", it.transcript)
            for it in voices
        ),
    )


@app.command()
@calls_gateway
def show(voice: VoiceId, *, gateway: GatewayOptions) -> None:
    """Show one voice."""

    async def run() -> Voice:
        async with gateway.client() as client:
            return await client.get_voice(voice)

    found = asyncio.run(run())
    for label, value in (
        ("voice", found.voice_id),
        ("name", found.display_name),
        ("recording", f"{found.duration_s:.2f} s"),
        ("transcript", found.transcript),
        ("consent", found.consent),
        ("record", found.consent_id or "none: enrolled by an earlier version"),
        ("enrolled", f"{found.created:%Y-%m-%d %H:%M:%S} UTC"),
    ):
        console.print(f"{label:<11}{value}", markup=False, soft_wrap=True)


@app.command()
@calls_gateway
def remove(voice: VoiceId, *, gateway: GatewayOptions) -> None:
    """Delete a voice."""

    async def run() -> None:
        async with gateway.client() as client:
            await client.delete_voice(voice)

    asyncio.run(run())
    console.print(f"removed voice {voice}", markup=False)


@app.command()
@calls_gateway
def consents(gateway: GatewayOptions) -> None:
    """List the consents, also those whose voices are deleted."""

    async def run() -> list[Consent]:
        async with gateway.client() as client:
            return [consent async for consent in client.list_consents()]

    found = asyncio.run(run())
    if not found:
        console.print("no consents yet")
        return
    rows = []
    for consent in found:
        voices = ", ".join(it.voice_id + (" (deleted)" if it.erased else "") for it in consent.voices)
        revoked = f"{consent.revoked:%Y-%m-%d %H:%M}" if consent.revoked else ""
        words = f"{consent.subject}: {consent.words}" if consent.subject else consent.words
        rows.append((consent.consent_id, f"{consent.created:%Y-%m-%d %H:%M}", revoked, voices, words))
    print_list(("consent", "stated", "revoked", "voices", "words"), rows)


@app.command()
@calls_gateway
def revoke(
    consent: Annotated[str, typer.Argument(metavar="CONSENT", help="Id, as `consents` shows it.")],
    *,
    gateway: GatewayOptions,
) -> None:
    """Revoke a consent: its voices are deleted, and the consent stays as evidence."""

    async def run() -> Consent:
        async with gateway.client() as client:
            return await client.revoke_consent(consent)

    revoked = asyncio.run(run())
    voices = ", ".join(voice.voice_id for voice in revoked.voices) or "none"
    console.print(f"revoked {consent}; voices under it, which are deleted: {voices}", markup=False)
