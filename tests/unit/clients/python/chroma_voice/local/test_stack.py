"""What the launcher gives its children."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chroma_voice.local.stack import MODULES, Stack
from chroma_voice.local.state import StateFolder
from services.codec.settings import CodecSettings
from services.common.settings import read_settings
from services.reasoner.settings import ReasonerSettings

LISTEN_SETTINGS = ("listen", "metrics_listen")


@pytest.mark.parametrize(("chosen", "given"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_tensors_lie_in_large_pages_unless_the_user_says_otherwise(
    chosen: dict[str, str], given: str, tmp_path: Path
) -> None:
    environment = {"CHROMA_REDIS_URL": "redis://127.0.0.1:1/0", **chosen}
    stack = Stack(StateFolder(tmp_path), "model", random_weights=True, environment=environment)
    for name in MODULES:
        assert stack._servers[name].process.environment["THP_MEM_ALLOC_ENABLE"] == given


def environments(tmp_path: Path, chosen: dict[str, str], http_listen: str = "") -> dict[str, dict[str, str]]:
    environment = {"CHROMA_REDIS_URL": "redis://127.0.0.1:1/0", **chosen}
    folder = StateFolder(tmp_path)
    stack = Stack(folder, "model", random_weights=True, environment=environment, http_listen=http_listen)
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
    environment = {"CHROMA_REDIS_URL": "redis://127.0.0.1:1/0", "CHROMA_GATEWAY_LISTEN": "0.0.0.0:50051"}
    stack = Stack(StateFolder(tmp_path), "model", random_weights=True, environment=environment)
    assert stack._servers["gateway"].process.environment["CHROMA_GATEWAY_LISTEN"] == "0.0.0.0:50051"
    assert stack._endpoints.gateway == "127.0.0.1:50051"
