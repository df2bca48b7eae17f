"""Which build of the compiled steps a CPU gets, and what happens without one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.cpu import library as module
from services.runtime.cpu.library import LAYOUT, VARIANTS, OpenMP, is_built, library
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def asked_again() -> Iterator[None]:
    library.cache_clear()
    yield
    library.cache_clear()


def test_every_build_that_is_looked_for_is_made() -> None:
    (table,) = re.findall(r"^COMPILED_FOR = {(.*)}$", (ROOT / "hatch_build.py").read_text(), re.MULTILINE)
    assert re.findall(r'"(\w+)":', table) == list(VARIANTS)


@pytest.mark.skipif(not all(map(is_built, VARIANTS)), reason="not built: make setup builds it")
def test_the_first_build_that_the_cpu_can_run_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VARIANTS", {"avx512vnni": lambda: False, "avx2": VARIANTS["avx2"]})
    found = library()
    assert (found.variant if found else None) == ("avx2" if VARIANTS["avx2"]() else None)


def test_without_a_build_there_is_none_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with caplog.at_level(logging.WARNING):
        assert library() is None
    assert "no compiled steps" in caplog.text


@pytest.mark.skipif(not all(map(is_built, VARIANTS)), reason="not built: make setup builds it")
def test_a_build_from_other_source_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "LAYOUT", LAYOUT + 1)
    assert not any(map(is_built, VARIANTS))
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    for variant in VARIANTS:
        module.file_of(variant).write_bytes(b"not a library")
    assert not any(map(is_built, VARIANTS))


def test_the_source_has_the_layout_that_python_describes() -> None:
    source = (module.FOLDER / "source" / "steps.c").read_text()
    assert re.findall(r"^const int64_t chroma_layout = (\d+);$", source, re.MULTILINE) == [str(LAYOUT)]


def test_another_openmp_library_than_pytorchs_means_one_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def absent(name: str, mode: int) -> None:
        raise OSError(name)

    monkeypatch.setattr(module.ctypes, "CDLL", absent)
    with caplog.at_level(logging.WARNING):
        found = module._openmp()
    assert isinstance(found, OpenMP)
    assert found.parallel is None
    assert "one thread" in caplog.text
