"""What the launcher gives its children."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chroma_voice.local.processes.fork_server import has_fork_server
from chroma_voice.local.stack import MODULES, Stack
from chroma_voice.local.state import StateFolder
from gateway.settings import GatewaySettings
from services.codec.settings import CodecSettings
from services.common.settings import read_settings
from services.reasoner.settings import ReasonerSettings

LISTEN_SETTINGS = ("listen", "metrics_listen")
NO_STORE = {"CHROMA_REDIS_URL": "redis://127.0.0.1:1/0"}


def make(folder: Path, chosen: dict[str, str], http_listen: str = "", *, random_weights: bool = True) -> Stack:
    return Stack(
        StateFolder(folder),
        "model",
        random_weights=random_weights,
        environment={**NO_STORE, **chosen},
        sockets=folder / "run",
        http_listen=http_listen,
    )


@pytest.mark.parametrize(("chosen", "given"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_tensors_lie_in_large_pages_unless_the_user_says_otherwise(
    chosen: dict[str, str], given: str, tmp_path: Path
) -> None:
    stack = make(tmp_path, chosen)
    for name in MODULES:
        assert stack._servers[name].process.environment["THP_MEM_ALLOC_ENABLE"] == given


@pytest.mark.parametrize(
    ("chosen", "given"), [({}, "0"), ({"CHROMA_DRAIN_S": "60"}, None), ({"CHROMA_DRAIN_IDLE_S": "9"}, "9")]
)
def test_an_idle_page_does_not_hold_up_the_end_unless_the_user_says_how_long_it_may_take(
    chosen: dict[str, str], given: str | None, tmp_path: Path
) -> None:
    assert make(tmp_path, chosen)._servers["gateway"].process.environment.get("CHROMA_DRAIN_IDLE_S") == given


@pytest.mark.parametrize(
    ("chosen", "random_weights", "given"),
    [({}, False, "true"), ({"CHROMA_TRANSCRIBE": "false"}, False, "false"), ({}, True, None)],
)
def test_speech_is_written_down_unless_the_user_says_otherwise_or_the_weights_are_random(
    chosen: dict[str, str], random_weights: bool, given: str | None, tmp_path: Path
) -> None:
    stack = make(tmp_path, chosen, random_weights=random_weights)
    assert stack._servers["gateway"].process.environment.get("CHROMA_TRANSCRIBE") == given


def environments(tmp_path: Path, chosen: dict[str, str], http_listen: str = "") -> dict[str, dict[str, str]]:
    stack = make(tmp_path, chosen, http_listen)
    return {name: stack._servers[name].process.environment for name in MODULES}


def test_a_setting_of_one_process_reaches_it_and_parts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environments(tmp_path, {"CHROMA_SLOTS": "8", "CHROMA_CODEC_SLOTS": "2"})
    for name, environment in given.items():
        for variable in [name for name in os.environ if name.startswith("CHROMA_")]:
            monkeypatch.delenv(variable)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        if name == "codec":
            assert read_settings(CodecSettings).slots == 2
        elif name == "reasoner":
            assert read_settings(ReasonerSettings).slots == 8


def test_what_the_launcher_decides_is_no_others_to_decide(tmp_path: Path) -> None:
    chosen = {"CHROMA_REASONER_MODEL": "other", "CHROMA_GATEWAY_CODEC": "far:1", "CHROMA_LISTEN": "0.0.0.0:1"}
    given = environments(tmp_path, chosen)
    assert given["reasoner"]["CHROMA_REASONER_MODEL"] == "model"
    assert given["gateway"]["CHROMA_GATEWAY_CODEC"] == given["codec"]["CHROMA_CODEC_LISTEN"]
    listening = {given[name][f"CHROMA_{name}_{setting}".upper()] for name in MODULES for setting in LISTEN_SETTINGS}
    assert len(listening) == 8


def test_a_process_listens_where_its_own_variable_says_and_is_dialled_on_this_machine(tmp_path: Path) -> None:
    stack = make(tmp_path, {"CHROMA_GATEWAY_LISTEN": "0.0.0.0:50051"})
    assert stack._servers["gateway"].process.environment["CHROMA_GATEWAY_LISTEN"] == "0.0.0.0:50051"
    assert stack._endpoints.gateway == "127.0.0.1:50051"


def test_no_grpc_server_listens_on_a_port_that_other_users_reach(tmp_path: Path) -> None:
    stack = make(tmp_path, {})
    for name in MODULES:
        assert stack._servers[name].process.environment[f"CHROMA_{name}_LISTEN".upper()] == (
            f"unix:{tmp_path}/run/{name}.sock"
        )
    assert stack._endpoints.gateway == f"unix:{tmp_path}/run/gateway.sock"


def test_the_page_gets_another_token_at_each_start(tmp_path: Path) -> None:
    stacks = [make(tmp_path, {}) for _ in range(2)]
    tokens = [stack._servers["gateway"].process.environment["CHROMA_GATEWAY_PAGE_TOKEN"] for stack in stacks]
    assert len(set(tokens)) == 2
    for stack, token in zip(stacks, tokens, strict=True):
        assert len(token) >= 43
        assert stack._endpoints.page.startswith("http://127.0.0.1:")
        assert token not in stack._endpoints.page
        for name in ("codec", "speech_gen", "reasoner"):
            assert token not in stack._servers[name].process.environment.values()


def test_the_page_of_a_gateway_with_keys_has_no_token(tmp_path: Path) -> None:
    stack = make(tmp_path, {"CHROMA_API_KEYS_FILE": "keys.json"})
    assert "CHROMA_GATEWAY_PAGE_TOKEN" not in stack._servers["gateway"].process.environment


@pytest.mark.parametrize(
    ("chosen", "drain_s"),
    [
        ({}, GatewaySettings.model_fields["drain_s"].default),
        ({"CHROMA_DRAIN_S": "7"}, 7.0),
        ({"CHROMA_DRAIN_S": "7", "CHROMA_GATEWAY_DRAIN_S": "8.5"}, 8.5),
        ({"CHROMA_DRAIN_S": "soon"}, GatewaySettings.model_fields["drain_s"].default),
    ],
)
def test_running_turns_get_the_gateways_drain_time(tmp_path: Path, chosen: dict[str, str], drain_s: float) -> None:
    assert make(tmp_path, chosen).drain_s == drain_s


@pytest.mark.skipif(not has_fork_server(), reason="needs Linux")
@pytest.mark.parametrize(
    ("chosen", "forked"),
    [
        ({}, {"codec", "speech_gen", "reasoner"}),
        ({"CHROMA_DEVICE": "cpu", "CHROMA_CODEC_DEVICE": "cuda:0"}, {"speech_gen", "reasoner"}),
        ({"CHROMA_DEVICE": "cuda:0", "CHROMA_CODEC_DEVICE": "cpu"}, {"codec"}),
        ({"CHROMA_DEVICE": "cuda"}, set()),
    ],
)
def test_services_on_the_cpu_are_forked(tmp_path: Path, chosen: dict[str, str], forked: set[str]) -> None:
    stack = make(tmp_path, chosen)
    assert {name for name, child in stack._servers.items() if child.process._spawn} == forked
    assert (stack._fork_server is not None) == bool(forked)
