"""Build hooks for wheels and editable installs.

The gRPC stubs of `protos/` are generated into `stubs/chroma/`. The steps of services/runtime/cpu/source are compiled,
once for each kind of CPU, by the C compiler in the package `ziglang`.
"""

# What only a build needs is not installed for development:
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED_FOR = {"avx512vnni": "x86_64_v4+avx512vnni", "avx2": "x86_64_v3"}
"""The builds of the compiled steps, as services/runtime/cpu/library.py names them, and their CPU for the compiler."""

_COMPILER = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.17"]
_OPTIONS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-s"]


def compile_steps(folder: Path) -> list[Path]:
    """Compile the steps whose `source` lies in `folder` into it, for Linux on x86-64. Returns the libraries."""
    built = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        for variant, cpu in COMPILED_FOR.items():
            library = folder / f"libsteps_{variant}.so"
            made = Path(cache) / library.name
            command = [*_COMPILER, *_OPTIONS, f"-mcpu={cpu}", str(folder / "source" / "steps.c"), "-o", str(made)]
            subprocess.run(command, check=True, env=environment)
            # A process may have the old library in its memory: its file is replaced, not written.
            beside = library.with_suffix(".new")
            beside.write_bytes(made.read_bytes())
            beside.replace(library)
            built.append(library)
    return built


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


class BuildProducts(GenerateStubs):
    """Makes the stubs, and in a project that has them the compiled steps."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        super().initialize(version, build_data)
        folder = Path(self.root) / "services" / "runtime" / "cpu"
        here = sys.platform, platform.machine()
        if self.target_name != "wheel" or here != ("linux", "x86_64") or not folder.is_dir():
            return
        libraries = compile_steps(folder)
        if version != "editable":
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-manylinux_2_17_x86_64"
            for library in libraries:
                build_data["force_include"][str(library)] = str(library.relative_to(self.root))


def get_build_hook() -> type[BuildHookInterface]:
    """The hook that hatchling runs."""
    return BuildProducts
