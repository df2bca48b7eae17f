"""`chroma-voice up` and `chroma-voice down`: all processes on this machine, started and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from chroma_voice.cli.gateway_address import API_KEY, DEFAULT_STATE, ApiKeyFile, State, read_api_key
from chroma_voice.cli.launcher.screen import Screen
from chroma_voice.errors import ChromaError, DeadlineExceeded, FailedPrecondition, Unavailable
from chroma_voice.local import checkpoint, drain, memory, repository, sample_voices
from chroma_voice.local.certificate import certificate
from chroma_voice.local.exposure import asks_for_keys, check_exposure, names_for_pages
from chroma_voice.local.listening import check_form, check_free, check_shared
from chroma_voice.local.stack import STOP_GRACE_S, Stack
from chroma_voice.local.state import Endpoints, StateFolder, open_private
from chroma_voice.local.weights import (
    DType,
    WeightFormat,
    Weights,
    choose_dtype,
    count_embeddings,
    count_parameters,
    stored_format,
)

RANDOM_WEIGHTS = (
    "This checkpoint has random weights: replies are meaningless tokens and their sound is noise. "
    "It shows the system at work, not the model. For trained weights leave out --model, or give "
    "--model FlashLabs/Chroma-4B."
)

_POLL_S = 0.1
_LOOK_EVERY_S = 1.0

_SLOTS_HELP = "Streams served at once: "

Slots = Annotated[int | None, typer.Option(envvar="CHROMA_SLOTS", min=1, help=f"{_SLOTS_HELP}of every service.")]
ReasonerSlots = Annotated[
    int | None,
    typer.Option(envvar="CHROMA_REASONER_SLOTS", min=1, help=f"{_SLOTS_HELP}of the reasoner. Default: --slots."),
]
SpeechGenSlots = Annotated[
    int | None,
    typer.Option(
        envvar="CHROMA_SPEECH_GEN_SLOTS", min=1, help=f"{_SLOTS_HELP}of the speech generator. Default: --slots."
    ),
]
CodecSlots = Annotated[
    int | None,
    typer.Option(envvar="CHROMA_CODEC_SLOTS", min=1, help=f"{_SLOTS_HELP}of the codec's decoder. Default: --slots."),
]


def up(
    model: Annotated[
        str,
        typer.Option(
            envvar="CHROMA_MODEL",
            help="Checkpoint folder, hub id, or `tiny` (random weights). Default: the repository's chroma-nano.",
        ),
    ] = "",
    state: State = DEFAULT_STATE,
    device: Annotated[
        str, typer.Option(envvar="CHROMA_DEVICE", help="torch device of the models, such as cpu or cuda:0.")
    ] = "cpu",
    dtype: Annotated[
        DType,
        typer.Option(
            envvar="CHROMA_DTYPE",
            help="Compute dtype. auto: float32 for a small checkpoint, bfloat16 for one over 4 GB in float32.",
        ),
    ] = DType.AUTO,
    weights: Annotated[
        WeightFormat,
        typer.Option(
            envvar="CHROMA_WEIGHTS",
            help="Weights of the linear layers: as the checkpoint has them, or quantised to 8 or 4 bits at load.",
        ),
    ] = WeightFormat.AS_STORED,
    slots: Slots = None,
    reasoner_slots: ReasonerSlots = None,
    speech_gen_slots: SpeechGenSlots = None,
    codec_slots: CodecSlots = None,
    http: Annotated[
        str,
        typer.Option(
            envvar="CHROMA_HTTP_LISTEN",
            help="host:port of the page and the HTTP API, such as 0.0.0.0:8443. Default: loopback, the same port "
            "for the same --state if it is free.",
        ),
    ] = "",
    gateway: Annotated[
        str,
        typer.Option(
            envvar="CHROMA_GATEWAY_LISTEN",
            help="host:port of the gRPC API, such as 127.0.0.1:50051. Default: a Unix socket that only you can reach.",
        ),
    ] = "",
    gateway_processes: Annotated[
        int,
        typer.Option(
            envvar="CHROMA_GATEWAY_PROCESSES",
            min=1,
            max=64,
            help="Processes of the gateway behind its ports, each for about one core. More than one need --gateway.",
        ),
    ] = 1,
    keys: Annotated[
        Path | None,
        typer.Option(
            envvar="CHROMA_API_KEYS_FILE",
            exists=True,
            dir_okay=False,
            help="File of API keys, made by `chroma-voice key new`: callers need one of them.",
        ),
    ] = None,
    api_key_file: ApiKeyFile = None,
    trusted_network: Annotated[
        bool,
        typer.Option(
            "--trusted-network",
            help="Let every machine that can reach --http and --gateway use and delete everything, without a key.",
        ),
    ] = False,
    tls: Annotated[
        bool,
        typer.Option("--tls", help="Serve the page by HTTPS with a self-signed certificate, for other machines."),
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser when all is ready.")] = False,
    with_voices: Annotated[
        bool | None,
        typer.Option(
            "--sample-voices/--no-sample-voices",
            help="Enrol the sample voices that are missing. Default: with chroma-nano, if there is no voice at all.",
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is ready; stop with `down`.")] = False,
) -> None:
    """Run everything on this machine: store, codec, speech generator, reasoner, gateway. Ctrl-C stops all of it.

    Other settings come from CHROMA_* environment variables: docs/settings.md lists them.
    """
    folder = StateFolder(state)
    options = {
        "CHROMA_DEVICE": device,
        "CHROMA_DTYPE": dtype.value,
        "CHROMA_WEIGHTS": weights.value,
        "CHROMA_SLOTS": slots,
        "CHROMA_REASONER_SLOTS": reasoner_slots,
        "CHROMA_SPEECH_GEN_SLOTS": speech_gen_slots,
        "CHROMA_CODEC_SLOTS": codec_slots,
        "CHROMA_GATEWAY_PROCESSES": gateway_processes,
    }
    environment = {**os.environ, **{name: str(value) for name, value in options.items() if value is not None}}
    environment |= {"CHROMA_GATEWAY_LISTEN": gateway, "CHROMA_API_KEYS_FILE": str(keys.absolute()) if keys else ""}
    if trusted_network:
        environment["CHROMA_TRUSTED_NETWORK"] = "true"
    addresses = {"--http": http, "--gateway": gateway}
    for option, address in addresses.items():
        check_form(address, option)
    check_shared(gateway, gateway_processes)
    check_exposure(environment, http, gateway)
    if folder.owner() is None:  # else its own processes listen there
        for option, address in addresses.items():
            check_free(address, option)
    if names := names_for_pages(environment, http):
        environment["CHROMA_GATEWAY_HTTP_HOSTS"] = ",".join(names)
    api_key = read_api_key(api_key_file)
    if detach:
        environment |= {"CHROMA_MODEL": model, "CHROMA_HTTP_LISTEN": http, API_KEY: api_key}
        _detach(folder, environment, tls, with_voices)
        if open_page:
            webbrowser.open(folder.endpoints().page)
        return
    environment.pop(API_KEY, None)  # it is for this command: the processes need no key
    with folder.own(), folder.sockets() as sockets:
        chosen = checkpoint.choose(model, folder.path)
        environment["CHROMA_DTYPE"] = _check_memory(chosen.folder, dtype, environment)
        shown = certificate(folder.path / "tls") if tls else None
        stack = Stack(
            folder,
            str(chosen.folder),
            random_weights=chosen.random_weights,
            environment=environment,
            sockets=sockets,
            http_listen=http,
            certificate=shown,
        )
        screen = Screen(stack.names)

        async def prepare(endpoints: Endpoints) -> None:
            if with_voices or (with_voices is None and chosen.is_default):
                if asks_for_keys(environment) and not api_key:
                    screen.say(f"sample voices: not looked for without a key, in {API_KEY} or by --api-key-file")
                    return
                await _enrol_sample_voices(endpoints, screen, api_key, only_if_none=with_voices is None)

        def announce(endpoints: Endpoints) -> None:
            screen.all_ready(f"ready: gateway at {endpoints.gateway} (gRPC), logs in {folder.logs}")
            screen.say(f"page:  {endpoints.page}")
            if names:
                port = http.rpartition(":")[2]
                screen.say(
                    f"Other machines open it at port {port} by an IP address of this machine or as {', '.join(names)}. "
                    "CHROMA_HTTP_HOSTS names others."
                )
            if shown:
                screen.say(f"Its certificate is self-made: your browser will ask. SHA-256 {shown.fingerprint}")
            if chosen.random_weights:
                screen.say(RANDOM_WEIGHTS)
            if open_page:
                webbrowser.open(endpoints.page)

        async def run() -> None:
            stop, hurry = asyncio.Event(), asyncio.Event()

            def on_signal() -> None:
                (hurry if stop.is_set() else stop).set()
                screen.say("stopping" if not hurry.is_set() else "stopping now")

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, on_signal)
            await stack.run(
                report=screen.show,
                prepare=prepare,
                announce=announce,
                waiting_for=lambda left: screen.say(drain.describe(left, stack.drain_s)),
                stop=stop,
                hurry=hurry,
            )

        with screen:
            asyncio.run(run())
        screen.say("stopped")


def down(state: State = DEFAULT_STATE) -> None:
    """Stop everything that `up` runs in this state folder.

    Running turns may end first, within the drain time (CHROMA_DRAIN_S, 120 s unless set). Ctrl-C stops them at once.
    """
    console = Console(highlight=False, soft_wrap=True)
    folder = StateFolder(state)
    pid = folder.owner()
    if pid is None:
        console.print(f"no chroma-voice runs in {folder.path}", markup=False)
        return
    try:
        endpoints = folder.endpoints()
    except Unavailable:  # it is still starting: there is no turn to wait for
        endpoints = None
    os.kill(pid, signal.SIGTERM)
    limit_s = (endpoints.drain_s if endpoints else 0.0) + 5 * STOP_GRACE_S
    try:
        _wait_until_stopped(folder, pid, limit_s, endpoints, console)
    except KeyboardInterrupt:
        console.print("stopping now", markup=False)
        os.kill(pid, signal.SIGINT)  # of another kind: two equal signals to a process that is not run become one
        _wait_until_stopped(folder, pid, limit_s, None, console)
    console.print("stopped", markup=False)


def _wait_until_stopped(
    folder: StateFolder, pid: int, limit_s: float, endpoints: Endpoints | None, console: Console
) -> None:
    """Wait until the launcher `pid` has ended, and print how many turns it waits for each time that this changes."""
    deadline = time.monotonic() + limit_s
    told, look_at = 0, time.monotonic() + _LOOK_EVERY_S
    while folder.owner() == pid:
        now = time.monotonic()
        if now > deadline:
            raise DeadlineExceeded(f"process {pid} did not stop within {limit_s:.0f} s")
        if endpoints and now >= look_at:
            left = drain.count_conversations(endpoints.metrics["gateway"])
            if left and left != told:
                console.print(drain.describe(left, endpoints.drain_s), markup=False)
                told = left
            look_at = now + _LOOK_EVERY_S
        time.sleep(_POLL_S)


async def _enrol_sample_voices(endpoints: Endpoints, screen: Screen, api_key: str, *, only_if_none: bool) -> None:
    """Enrol the sample voices. A failure is printed and stops nothing: the system works without them."""
    try:
        ids = await sample_voices.enrol(
            repository.sample_voices(), endpoints.gateway, only_if_none=only_if_none, api_key=api_key
        )
    except (ChromaError, OSError) as error:
        screen.say(f"the sample voices could not be enrolled: {error}")
        return
    if ids:
        screen.say(f"enrolled the sample voices {', '.join(ids)}")


def _check_memory(folder: Path, asked: DType, environment: Mapping[str, str]) -> DType:
    """Choose the compute dtype, and print the memory that the weights need. Raises when they cannot fit."""
    parameters, embeddings, stored = count_parameters(folder), count_embeddings(folder), stored_format(folder)
    dtype = choose_dtype(asked, parameters)
    needed, devices = {}, {}
    for service, count in parameters.items():
        own = f"CHROMA_{service}".upper()
        own_dtype = "float32" if service == "codec" else environment.get(f"{own}_DTYPE")
        # The service itself refuses a dtype that is none.
        own_dtype = own_dtype if own_dtype in ("float32", "bfloat16") else dtype.value
        weights = stored or environment.get(f"{own}_WEIGHTS") or environment["CHROMA_WEIGHTS"]
        needed[service] = Weights(
            count, own_dtype, "as-stored" if service == "codec" else weights, embeddings.get(service, 0)
        )
        devices[service] = environment.get(f"{own}_DEVICE") or environment["CHROMA_DEVICE"]
    console = Console(highlight=False, soft_wrap=True)
    for line in memory.describe(needed, devices) if needed else ():
        console.print(line, markup=False)
    return dtype


def _detach(folder: StateFolder, environment: Mapping[str, str], tls: bool, with_voices: bool | None) -> None:
    """Start another launcher in the background and follow its output until everything is ready."""
    if (pid := folder.owner()) is not None:
        raise FailedPrecondition(f"chroma-voice already runs in {folder.path} (process {pid})")
    folder.make()
    log_file = folder.logs / "up.log"
    command = [sys.executable, "-m", "chroma_voice.cli", "up", "--state", str(folder.path)]
    command += ["--tls"] if tls else []
    if with_voices is not None:
        command += ["--sample-voices" if with_voices else "--no-sample-voices"]
    with open_private(log_file, os.O_CREAT | os.O_TRUNC) as log:
        launcher = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with log_file.open(errors="replace") as output:
            while True:
                ended = launcher.poll() is not None
                ready = not ended and _is_ready(folder)
                sys.stdout.write(output.read())
                sys.stdout.flush()
                if ready:
                    return
                if ended:
                    raise ChromaError(f"the launcher ended with status {launcher.returncode}; see {log_file}")
                time.sleep(_POLL_S)
    except BaseException:
        if launcher.poll() is None:
            launcher.terminate()
            launcher.wait()
        raise


def _is_ready(folder: StateFolder) -> bool:
    try:
        folder.endpoints()
    except Unavailable:
        return False
    return True
