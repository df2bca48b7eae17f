"""Build hook that generates the gRPC stubs of `protos/` into `stubs/chroma/`, for wheels and editable installs."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GenerateStubs(BuildHookInterface):
    """Runs protoc over every proto. The stubs are build products and are never committed.

    The hook's setting `protos` is the folder of the protos, relative to the project's folder.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        from grpc_tools import protoc

        root = Path(self.root)
        stubs = root / "stubs"
        (stubs / "chroma" / "v1").mkdir(parents=True, exist_ok=True)
        for package in (stubs / "chroma", stubs / "chroma" / "v1"):
            (package / "__init__.py").touch()
            (package / "py.typed").touch()
        source = root / self.config.get("protos", "protos")
        protos = sorted(str(path.relative_to(source)) for path in source.rglob("*.proto"))
        plugins = Path(sys.executable).parent
        os.environ["PATH"] = f"{plugins}{os.pathsep}{os.environ['PATH']}"
        status = protoc.main(
            [
                "protoc",
                f"-I{source}",
                f"-I{resources.files('grpc_tools') / '_proto'}",
                f"--python_out={stubs}",
                f"--grpc_python_out={stubs}",
                f"--mypy_out={stubs}",
                f"--mypy_grpc_out={stubs}",
                *protos,
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}")
        build_data["force_include"][str(stubs / "chroma")] = "chroma"
