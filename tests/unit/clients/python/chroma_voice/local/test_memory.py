from __future__ import annotations

from pathlib import Path

import pytest

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local import memory
from chroma_voice.local.memory import Memory, describe, read_memory
from chroma_voice.local.weights import Weights

NEEDED = {"reasoner": Weights(2 * 10**9, "bfloat16"), "codec": Weights(10**8, "float32")}


def lines(monkeypatch: pytest.MonkeyPatch, found: dict[str, Memory | None], devices: dict[str, str]) -> list[str]:
    monkeypatch.setattr(memory, "read_memory", found.__getitem__)
    return list(describe(NEEDED, devices))


def test_the_weights_of_each_service_and_the_memory_there_is_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = lines(monkeypatch, {"cpu": Memory(8 * 10**9, 16 * 10**9)}, {"reasoner": "cpu", "codec": "cpu"})
    assert said == [
        "weights: reasoner 4.0 GB in bfloat16, codec 400.0 MB in float32; KV caches and working memory come on top",
        "memory: cpu has 8.0 GB free of 16.0 GB",
    ]


def test_weights_that_need_more_than_is_free_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, last = lines(monkeypatch, {"cpu": Memory(10**9, 16 * 10**9)}, {"reasoner": "cpu", "codec": "cpu"})
    assert last.startswith("warning: the weights need more than is free")


def test_weights_larger_than_the_machine_are_refused_with_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        lines(monkeypatch, {"cpu": Memory(10**9, 4 * 10**9)}, {"reasoner": "cpu", "codec": "cpu"})
    for part in ("reasoner 4.0 GB in bfloat16", "cpu has 1.0 GB free of 4.0 GB", "--weights int8 or int4", "--device"):
        assert part in refused.value.message


def test_on_a_gpu_what_others_hold_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FailedPrecondition):
        lines(monkeypatch, {"cuda": Memory(10**9, 80 * 10**9)}, {"reasoner": "cuda", "codec": "cuda"})


def test_each_device_holds_only_the_weights_of_its_own_services(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Memory | None] = {"cuda:0": Memory(5 * 10**9, 8 * 10**9), "cpu": Memory(10**9, 2 * 10**9)}
    said = lines(monkeypatch, found, {"reasoner": "cuda:0", "codec": "cpu"})
    assert [line for line in said if line.startswith("memory")] == [
        "memory: cuda:0 has 5.0 GB free of 8.0 GB",
        "memory: cpu has 1.0 GB free of 2.0 GB",
    ]


def test_memory_that_the_system_does_not_tell_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(lines(monkeypatch, {"mps": None}, {"reasoner": "mps", "codec": "mps"})) == 1


def test_a_containers_limit_is_all_the_memory_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable: 6000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER_LIMIT", tmp_path / "memory.max")
    assert read_memory("cpu") == Memory(6000 * 1024, 8000 * 1024)
    (tmp_path / "memory.max").write_text("max\n")
    assert read_memory("cpu") == Memory(6000 * 1024, 8000 * 1024)
    (tmp_path / "memory.max").write_text(f"{2000 * 1024}\n")
    assert read_memory("cpu") == Memory(2000 * 1024, 2000 * 1024)


def test_a_gpus_memory_comes_from_the_drivers_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = "--id=1" ] || exit 6\necho "1000, 2000"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_memory("cuda:1") == Memory(1000 * 2**20, 2000 * 2**20)
    assert read_memory("cuda:7") is None
    tool.unlink()
    assert read_memory("cuda:1") is None
