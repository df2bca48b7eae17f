from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chroma_voice.cli import app
from chroma_voice.cli.launcher import up
from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.keys_file import KeysFile
from chroma_voice.local import certificate, checkpoint
from chroma_voice.local.memory import Memory
from chroma_voice.local.state import StateFolder
from tests.support.endpoints import ENDPOINTS


class RecordedStack:
    """A stack that records what it is given and is at once at its end."""

    names = ("codec",)
    given: dict[str, Any]

    def __init__(self, folder: StateFolder, model: str, **options: Any) -> None:
        RecordedStack.given = {"model": model, **options}

    async def run(self, **callbacks: Any) -> None:
        """Be ready, then end."""
        await callbacks["prepare"](ENDPOINTS)


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> type[RecordedStack]:
    monkeypatch.setattr(up, "Stack", RecordedStack)
    monkeypatch.setattr(up, "check_free", lambda address, option: None)
    monkeypatch.setattr(RecordedStack, "given", {}, raising=False)
    return RecordedStack


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint `tiny`, which is written once."""
    return checkpoint.choose(checkpoint.TINY, tmp_path_factory.mktemp("state")).folder


@pytest.fixture(autouse=True)
def written(tiny: Path, tmp_path: Path) -> None:
    """The state folder of each test has the checkpoint."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / checkpoint.TINY).symlink_to(tiny)


def invoke(tmp_path: Path, *options: str, **variables: str) -> tuple[str, dict[str, str]]:
    """What `up --model tiny` prints, and the environment that it gives to the processes."""
    done = CliRunner().invoke(
        app, ["up", "--state", str(tmp_path), "--model", "tiny", *options], env=variables, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output, RecordedStack.given["environment"]


def test_auto_is_float32_for_a_small_checkpoint_and_the_memory_is_said(tmp_path: Path) -> None:
    printed, environment = invoke(tmp_path)
    assert environment["CHROMA_DTYPE"] == "float32"
    assert "speech_gen 5.6 MB in float32, " in printed


def test_a_dtype_asked_for_is_taken_and_the_codecs_is_float32_all_the_same(tmp_path: Path) -> None:
    printed, environment = invoke(tmp_path, "--dtype", "bfloat16")
    assert environment["CHROMA_DTYPE"] == "bfloat16"
    assert "reasoner 0.3 MB in bfloat16, speech_gen" in printed
    assert "MB in float32; KV caches" in printed


def test_the_dtype_and_device_of_one_service_alone_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up.memory, "read_memory", {"cpu": None, "cuda:1": Memory(10**10, 10**10)}.__getitem__)
    printed, _ = invoke(tmp_path, CHROMA_REASONER_DTYPE="bfloat16", CHROMA_REASONER_DEVICE="cuda:1")
    assert "reasoner 0.3 MB in bfloat16, " in printed
    assert "cuda:1 has 10.0 GB free" in printed


def test_weights_in_fewer_bits_reach_the_services_and_the_memory_is_said(tmp_path: Path) -> None:
    printed, environment = invoke(tmp_path, "--weights", "int8", CHROMA_SPEECH_GEN_WEIGHTS="int4")
    assert environment["CHROMA_WEIGHTS"] == "int8"
    assert "MB in int8 and float32, speech_gen" in printed
    assert "MB in int4 and float32, codec" in printed or "MB in int4 and float32; KV" in printed


def test_a_dtype_that_is_none_is_left_to_the_service_to_refuse(tmp_path: Path) -> None:
    _, environment = invoke(tmp_path, CHROMA_REASONER_DTYPE="float8")
    assert environment["CHROMA_REASONER_DTYPE"] == "float8"


def test_weights_that_cannot_fit_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up.memory, "read_memory", lambda device: Memory(1, 1))
    with pytest.raises(FailedPrecondition, match="do not fit"):
        invoke(tmp_path)
    assert RecordedStack.given == {}
    assert StateFolder(tmp_path).owner() is None


def test_slots_can_be_set_for_all_and_for_one(tmp_path: Path) -> None:
    _, environment = invoke(tmp_path, "--slots", "8", "--codec-slots", "2", CHROMA_REASONER_SLOTS="4")
    slots = {name: value for name, value in environment.items() if name.endswith("_SLOTS")}
    assert slots == {"CHROMA_SLOTS": "8", "CHROMA_CODEC_SLOTS": "2", "CHROMA_REASONER_SLOTS": "4"}


def test_a_gateway_of_several_processes_needs_a_port(tmp_path: Path) -> None:
    _, environment = invoke(tmp_path, "--gateway-processes", "4", "--gateway", "127.0.0.1:50051")
    assert environment["CHROMA_GATEWAY_PROCESSES"] == "4"
    _, environment = invoke(tmp_path)
    assert environment["CHROMA_GATEWAY_PROCESSES"] == "1"
    RecordedStack.given = {}
    for options, variables in ((("--gateway-processes", "2"), {}), ((), {"CHROMA_GATEWAY_PROCESSES": "2"})):
        with pytest.raises(InvalidArgument, match=r"--gateway-processes 2: .*--gateway"):
            invoke(tmp_path, *options, **variables)
    assert RecordedStack.given == {}


@pytest.mark.parametrize("option", [("--dtype", "float64"), ("--codec-slots", "0"), ("--slots", "many")])
def test_a_bad_option_is_a_wrong_usage(tmp_path: Path, option: tuple[str, str]) -> None:
    assert CliRunner().invoke(app, ["up", "--state", str(tmp_path), *option]).exit_code == 2


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["down", "--state", str(tmp_path)])
    assert done.exit_code == 0
    assert "no chroma-voice runs" in done.output


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys" / "keys.json"
    KeysFile(file).add("phone", "default", ["talk"], None)
    return file


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (("--http", "0.0.0.0:8080"), {}),
        (("--gateway", "0.0.0.0:50051"), {}),
        (("--gateway", "voice.example.com:50051"), {}),
        ((), {"CHROMA_HTTP_LISTEN": "[::]:8080"}),
        ((), {"CHROMA_GATEWAY_LISTEN": ":50051"}),
    ],
)
def test_an_open_address_without_keys_is_refused_with_the_way_to_make_keys(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    for detach in ((), ("--detach",)):
        with pytest.raises(FailedPrecondition, match="chroma-voice key new"):
            invoke(tmp_path / "state", *options, *detach, **variables)
    assert RecordedStack.given == {}
    assert not (tmp_path / "state").exists()


def test_an_open_address_is_taken_with_keys_or_when_the_network_is_trusted(tmp_path: Path, keys: Path) -> None:
    state, is_open = tmp_path / "state", ("--http", "0.0.0.0:8080")
    _, environment = invoke(state, *is_open, "--keys", str(keys))
    assert environment["CHROMA_API_KEYS_FILE"] == str(keys)
    assert "CHROMA_TRUSTED_NETWORK" not in environment
    _, environment = invoke(state, *is_open, "--trusted-network")
    assert environment["CHROMA_TRUSTED_NETWORK"] == "true"
    for variables in (
        {"CHROMA_API_KEYS_FILE": str(keys)},
        {"CHROMA_API_KEYS": '{"k": "t"}'},
        {"CHROMA_GATEWAY_OIDC_ISSUER": "https://id.example.com"},
        {"CHROMA_TRUSTED_NETWORK": "yes"},
    ):
        invoke(state, *is_open, **variables)


def test_a_page_for_other_machines_is_opened_by_the_names_of_this_one_and_they_are_told(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(self: RecordedStack, **callbacks: Any) -> None:
        callbacks["announce"](ENDPOINTS)

    monkeypatch.setattr(RecordedStack, "run", run)
    monkeypatch.setattr(certificate.socket, "gethostname", lambda: "box")
    options = ("--http", "0.0.0.0:8080", "--keys", str(keys))
    printed, environment = invoke(tmp_path, *options)
    assert environment["CHROMA_GATEWAY_HTTP_HOSTS"] == "box,box.local"
    assert "at port 8080 by an IP address of this machine or as box, box.local." in printed
    _, environment = invoke(tmp_path, *options, CHROMA_HTTP_HOSTS="voice.example.com")
    assert environment["CHROMA_GATEWAY_HTTP_HOSTS"] == "voice.example.com"
    printed, environment = invoke(tmp_path, "--http", "127.0.0.1:8080")
    assert "CHROMA_GATEWAY_HTTP_HOSTS" not in environment
    assert "Other machines" not in printed


def test_loopback_needs_no_keys(tmp_path: Path) -> None:
    _, environment = invoke(tmp_path, "--http", "127.0.0.1:8080", "--gateway", "localhost:50051")
    assert environment["CHROMA_GATEWAY_LISTEN"] == "localhost:50051"


def test_the_key_of_this_command_reaches_no_process_and_enrols_the_sample_voices(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    async def enrol(*arguments: Any, api_key: str, **options: Any) -> list[str]:
        used.append(api_key)
        return ["amber"]

    monkeypatch.setattr(up.sample_voices, "enrol", enrol)
    options = ("--sample-voices", "--keys", str(keys))
    printed, environment = invoke(tmp_path / "state", *options, CHROMA_API_KEY="cv_secret")
    assert used == ["cv_secret"]
    assert "cv_secret" not in [*environment.values(), printed]
    printed, _ = invoke(tmp_path / "state", *options)
    assert used == ["cv_secret"]
    assert "CHROMA_API_KEY" in printed


def test_a_missing_keys_file_is_a_wrong_usage(tmp_path: Path) -> None:
    arguments = ["up", "--state", str(tmp_path), "--keys", str(tmp_path / "none.json")]
    assert CliRunner().invoke(app, arguments).exit_code == 2
