"""Files of any content are read or refused in a sentence, and so are the sections of a config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import CheckpointError
from services.runtime.checkpoint import folder as folder_module
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig, read_generation_config
from services.runtime.checkpoint.folder import read_json, read_text
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.paths import PUBLIC_GOLDEN

CONFIG: dict[str, Any] = json.loads((PUBLIC_GOLDEN / "checkpoint" / "config.json").read_text())
PROPERTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"])
def test_a_file_that_is_no_json_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_json(tmp_path, "config.json")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_json(tmp_path, "config.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MAX_TEXT_BYTES", 10)
    (tmp_path / "merges.txt").write_text("x" * 11)
    with pytest.raises(CheckpointError, match="expected at most 10 bytes, found 11"):
        read_text(tmp_path, "merges.txt")


def _paths(section: dict[str, Any], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every value of a configuration, those of inner objects included."""
    found: list[tuple[str, ...]] = []
    for key, value in section.items():
        found.append((*before, key))
        if isinstance(value, dict):
            found += _paths(value, (*before, key))
    return found


@PROPERTY
@given(path=st.sampled_from(_paths(CONFIG)), value=JSON)
def test_a_config_with_any_value_changed_is_read_or_refused(path: tuple[str, ...], value: object) -> None:
    changed = json.loads(json.dumps(CONFIG))
    section = changed
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    try:
        config = ChromaConfig.from_dict(changed)
    except CheckpointError:
        return
    assert config.backbone.layers > 0


@PROPERTY
@given(config=st.dictionaries(st.sampled_from(sorted(CONFIG)), JSON))
def test_any_config_is_read_or_refused(config: dict[str, object]) -> None:
    try:
        ChromaConfig.from_dict(config)
    except CheckpointError:
        return


@PROPERTY
@given(config=st.dictionaries(st.sampled_from(["temperature", "top_k", "do_sample"]), JSON))
def test_any_generation_config_is_read_or_refused(config: dict[str, object]) -> None:
    try:
        read_generation_config(config)
    except CheckpointError:
        return


@PROPERTY
@given(
    content=st.fixed_dictionaries({}, optional={"added_tokens": st.lists(JSON, max_size=2) | JSON, "model": JSON})
    | JSON,
    template=st.fixed_dictionaries({"chat_template": JSON}) | JSON,
)
def test_any_tokenizer_files_are_read_or_refused(content: object, template: object, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(template))
    with pytest.raises(CheckpointError):
        Tokenizer.from_checkpoint(Checkpoint(tmp_path, {}, {}, {}))
