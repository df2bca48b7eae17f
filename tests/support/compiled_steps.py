"""The builds of the compiled steps that this CPU can run."""

from __future__ import annotations

from typing import Any

import pytest

from services.runtime.cpu.library import VARIANTS, Library, file_of, is_built


def each_library() -> list[Any]:
    """Parameters of a fixture: each build. Those that are missing or not for this CPU are skipped with the reason."""
    parameters: list[Any] = []
    for variant, runs in VARIANTS.items():
        reason = "" if runs() else f"this CPU cannot run {variant}"
        if not is_built(variant):
            reason = f"{file_of(variant).name} is not built from this source: make setup builds it"
        parameters.append(
            pytest.param(None, id=variant, marks=pytest.mark.skip(reason=reason))
            if reason
            else pytest.param(Library(variant), id=variant)
        )
    return parameters
