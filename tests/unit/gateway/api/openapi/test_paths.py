"""The paths of the OpenAPI description."""

from __future__ import annotations

import re

from gateway.api.openapi.paths import paths


def test_each_part_of_a_path_is_a_parameter_of_all_its_operations() -> None:
    for path, item in paths().items():
        for operation in item.values():
            named = {entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_each_operation_has_a_summary_of_one_line() -> None:
    for item in paths().values():
        for operation in item.values():
            assert operation["summary"]
            assert not operation["summary"].endswith(".")
            assert "\n" not in operation["summary"]
