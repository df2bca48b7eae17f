"""The builds of the compiled steps that this CPU can run."""

from __future__ import annotations

from typing import Any

import pytest

from services.runtime.cpu.library import VARIANTS, Library, file_of


def each_library() -> list[Any]:
    """Parameters of a fixture: each build. Those that are missing or not for this CPU are skipped with the reason."""
    parameters: list[Any] = []
    for variant, runs in VARIANTS.items():
        reason = "" if runs() else f"this CPU cannot run {variant}"
        if not file_of(variant).is_file():
            reason = f"{file_of(variant).name} is not built: make setup builds it"
        parameters.append(
            pytest.param(None, id=variant, marks=pytest.mark.skip(reason=reason))
            if reason
            else pytest.param(Library(variant), id=variant)
        )
    return parameters
