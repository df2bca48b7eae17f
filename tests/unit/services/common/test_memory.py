"""A service refuses weights that cannot fit its device, with what would work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from chroma_voice.local import memory
from chroma_voice.local.memory import Memory
from chroma_voice.local.repository import trained_checkpoint
from chroma_voice.local.weights import Weights, count_embeddings, count_parameters
from services.codec.__main__ import load as load_codec
from services.codec.settings import CodecSettings
from services.common.errors import FailedPrecondition
from services.common.memory import check_memory
from services.common.settings import ModelSettings
from services.reasoner.__main__ import load as load_reasoner
from services.reasoner.settings import ReasonerSettings
from services.speech_gen.__main__ import load as load_speech_gen
from services.speech_gen.settings import SpeechGenSettings
from tests.support.golden_checkpoint import golden_checkpoint


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> dict[str, Memory]:
    """The memory of each device, which a test sets."""
    devices: dict[str, Memory] = {}
    monkeypatch.setattr(memory, "read_memory", devices.get)
    return devices


@pytest.mark.parametrize(
    ("load", "settings"),
    [
        (load_reasoner, ReasonerSettings),
        (load_speech_gen, SpeechGenSettings),
        (load_codec, CodecSettings),
    ],
)
def test_each_service_refuses_to_start_where_its_weights_cannot_fit(
    load: Callable[..., object], settings: type[ModelSettings], has: dict[str, Memory]
) -> None:
    has["cpu"] = Memory(1000, 2000)
    with pytest.raises(FailedPrecondition) as refused:
        load(settings(model=str(trained_checkpoint()), device="cpu"))
    assert refused.value.message.startswith(f"the weights do not fit: {settings.service} ")
    assert "Ways out: " in refused.value.message
    assert ("CHROMA_WEIGHTS=int8 or int4" in refused.value.message) == (settings is not CodecSettings)


def test_fewer_bits_may_fit_where_the_weights_as_stored_do_not(has: dict[str, Memory]) -> None:
    folder = golden_checkpoint()
    parameters, embeddings = count_parameters(folder)["speech_gen"], count_embeddings(folder)["speech_gen"]
    needed = {name: Weights(parameters, "float32", name, embeddings).size_bytes for name in ("as-stored", "int8")}
    has["cpu"] = Memory(needed["int8"], needed["as-stored"] - 1)
    check_memory("speech_gen", folder, dtype="float32", weights_format="int8", device="cpu")
    with pytest.raises(FailedPrecondition):
        check_memory("speech_gen", folder, dtype="float32", weights_format="as-stored", device="cpu")


def test_weights_that_need_more_than_is_free_are_warned_of(
    has: dict[str, Memory], caplog: pytest.LogCaptureFixture
) -> None:
    has["cpu"] = Memory(1000, 10**9)
    with caplog.at_level(logging.INFO):
        check_memory("codec", golden_checkpoint(), dtype="float32", weights_format="as-stored", device="cpu")
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]


def test_a_folder_without_readable_headers_is_left_to_the_loader(tmp_path: Path, has: dict[str, Memory]) -> None:
    has["cpu"] = Memory(1, 1)
    check_memory("codec", tmp_path, dtype="float32", weights_format="as-stored", device="cpu")
