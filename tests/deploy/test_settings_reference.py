"""docs/settings.md and the registry of variables are up to date."""

from __future__ import annotations

import re
import subprocess

import pytest

from deploy.monitoring import settings_reference
from services.common import variables
from services.common.settings import ServiceSettings
from tests.support.paths import ROOT


def test_the_page_and_the_registry_are_up_to_date() -> None:
    assert settings_reference.PAGE.read_text() == settings_reference.page(), "run: make generated"
    assert variables.FILE.read_text() == settings_reference.registry(), "run: make generated"


@pytest.mark.parametrize("settings_type", settings_reference.PROCESSES)
def test_every_setting_has_a_meaning_and_every_number_a_unit(settings_type: type[ServiceSettings]) -> None:
    for name, field in settings_type.model_fields.items():
        assert (field.description or "").endswith("."), name
        settings_reference.unit(name, field)


def test_every_setting_of_every_process_is_in_a_table() -> None:
    page = settings_reference.PAGE.read_text()
    for process in settings_reference.PROCESSES:
        for name in process.model_fields:
            assert (
                f"| `{variables.shared_name(name)}` |" in page
                or f"| `{variables.own_name(process.service, name)}` or" in page
            )


def test_the_name_for_one_process_is_no_other_setting_of_any_process() -> None:
    fields = [(process.service, name) for process in settings_reference.PROCESSES for name in process.model_fields]
    shared = {variables.shared_name(name) for _, name in fields}
    assert not shared & {variables.own_name(service, name) for service, name in fields}


def test_a_setting_that_processes_read_differently_is_listed_under_a_name_for_each() -> None:
    page = settings_reference.PAGE.read_text()
    for process in ("REASONER", "SPEECH_GEN", "CODEC"):
        assert f"| `CHROMA_{process}_SLOTS` or `CHROMA_SLOTS` |" in page


def test_every_variable_named_in_the_repository_exists() -> None:
    """Tests that misspell variables on purpose are left out."""
    files = subprocess.run(
        [
            "git",
            "grep",
            "-lIE",
            "CHROMA_[A-Z]",
            "--",
            ".",
            ":!tests/unit/services/common",
            ":!tests/support/fake*",
            ":!tests/deploy/test_helm_values.py",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "deploy/compose.yaml" in files
    for file in files:
        for name in re.findall(r"\bCHROMA_[A-Z][A-Z_]*[A-Z]\b", (ROOT / file).read_text()):
            assert name in variables.known_variables() or name == "CHROMA_VOICE_SERVICE_HOST", f"{name} in {file}"
