"""The snippets of README.md and of the client's README run as they stand, in their order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.documented_stack import DocumentedStack
from tests.support.paths import ROOT
from tests.support.private_network import private_network
from tests.support.shell import Session, run_shell, virtual_environment
from tests.support.snippets import snippets_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_readme_works_from_top_to_bottom(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    virtual_environment(tmp_path / ".venv")
    blocks = [it for it in snippets_of("README.md") if it.language in ("sh", "python")]
    with private_network(50051, 8443) as network:
        session = Session(tmp_path, before=network)
        try:
            printed = [session.run(block) for block in blocks]
        finally:
            run_shell(".venv/bin/chroma-voice down", tmp_path, limit_s=200)
    assert "warm a tortilla" in printed[0]
    assert (tmp_path / "reply.wav").stat().st_size > 10_000
    assert (tmp_path / "reply-2.mp3").stat().st_size > 3_000
    assert "enrolled voice ann" in printed[1]
    assert "warm a tortilla" in printed[2]
    assert "amber" in printed[3]


def test_the_programs_of_the_clients_readme_run(documented: DocumentedStack, tmp_path: Path) -> None:
    programs = [it for it in snippets_of("clients/python/README.md") if it.language == "python"]
    assert len(programs) == 2
    for program in programs:
        (tmp_path / "program.py").write_text(program.code)
        assert documented.run(f"{sys.executable} program.py", tmp_path).strip(), program
