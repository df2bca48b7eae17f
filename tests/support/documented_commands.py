"""Checks of the commands that the documents show: names, options and files exist, also where no test runs one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
import yaml

from chroma_voice.cli import app
from deploy.helm.kustomize import build
from tests.support.manifests import K8S, OVERLAYS
from tests.support.paths import ROOT
from tests.support.snippets import Command

_FOREIGN = {
    *(
        "apt",
        "cat",
        "cp",
        "curl",
        "cut",
        "docker",
        "echo",
        "export",
        "find",
        "git",
        "go",
        "grep",
        "hf",
        "mkdir",
        "node",
    ),
    *(
        "npm",
        "openssl",
        "podman",
        "podman-compose",
        "printf",
        "protoc",
        "sha256sum",
        "sort",
        "source",
        "umask",
        "valkey-cli",
        "xargs",
    ),
}
"""Programs of others, of which only the files are checked."""
_UNTRACKED = ("build/", "out/", "state/", "deploy/wheels/")
"""Paths that commands write."""


def check(command: Command) -> None:
    """Fail when the command names a program, an option or a file of this repository that does not exist."""
    program = command.words[0]
    checks: dict[str, Callable[[Command], None]] = {
        "chroma-voice": _check_chroma_voice,
        "helm": _check_helm,
        "kubectl": _check_kubectl,
        "make": _check_make,
        "pip": _check_pip,
        "python": _check_python,
    }
    if program in checks:
        checks[program](command)
    else:
        assert program in _FOREIGN or program.startswith("./"), f"nothing checks the command {program!r}"
    _check_files(command)


def check_names(words: list[str]) -> None:
    """Check a command in a sentence, which may leave arguments out: `chroma-voice key new|list --file FILE`."""
    if words[0] == "make":
        return _check_make(Command(tuple(words), (), ROOT))
    if words[0] == "python":
        return _check_python(Command(tuple(words), (), ROOT))
    current: Any = typer.main.get_command(app)
    for word in words[1:]:
        if word.startswith("-"):
            option = word.partition("=")[0]
            assert option in _options_of(current), f"{' '.join(words)}: no option {option}"
        elif hasattr(current, "commands"):
            assert set(word.split("|")) <= current.commands.keys(), f"{' '.join(words)}: no command {word}"
            current = current.commands[word.split("|")[0]]
    return None


def _options_of(command: Any) -> set[str]:
    named = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return named | {"--help"} | (_options_of_checkpoint() if command.name == "checkpoint" else set())


@cache
def _options_of_checkpoint() -> set[str]:
    """`chroma-voice checkpoint` passes its arguments on."""
    return set(re.findall(r'"(--[\w-]+)"', (ROOT / "checkpoints" / "__main__.py").read_text()))


def _check_chroma_voice(command: Command) -> None:
    """Let the command line parse its arguments, with folders and files as they are."""
    current: Any = typer.main.get_command(app)
    name, context, arguments = "chroma-voice", None, list(command.words[1:])
    try:
        while hasattr(current, "commands"):
            context = current.make_context("chroma-voice", arguments, parent=context)
            name, current, arguments = current.resolve_command(context, [*context._protected_args, *context.args])
        current.make_context(name, arguments, parent=context)
    except typer.BadParameter as error:
        if "does not exist" not in error.format_message():  # else an earlier command writes the file
            raise


@cache
def _makefile() -> tuple[set[str], set[str]]:
    """The targets and the variables of the Makefiles."""
    text = (ROOT / "Makefile").read_text() + (ROOT / "train" / "stages.mk").read_text()
    targets = {name for line in re.findall(r"^([\w. -]+):(?!=)", text, re.MULTILINE) for name in line.split()}
    return targets, set(re.findall(r"\$[({](\w+)", text)) | set(re.findall(r"\b([A-Z_]+)=", text))


def _check_make(command: Command) -> None:
    targets, variables = _makefile()
    for word in (*command.words[1:], *command.variables):
        name, is_variable, _ = word.partition("=")
        if not word.startswith("-"):
            assert name in (variables if is_variable else targets), f"{command}: make knows no {name}"


def _check_pip(command: Command) -> None:
    assert command.words[1] in ("install", "download", "wheel"), command


def _check_python(command: Command) -> None:
    if command.words[1] == "-c":
        compile(command.words[2], str(command), "exec")
        return
    is_module = command.words[1] == "-m"
    options = [word for word in command.words[2:] if word.startswith("--")]
    if is_module:
        spec = find_spec(command.words[2])
        assert spec is not None, f"{command}: no module {command.words[2]}"
        is_package = spec.submodule_search_locations is not None
        source = Path(find_spec(f"{command.words[2]}.__main__").origin if is_package else spec.origin)  # type: ignore[union-attr, arg-type]
    else:
        source = command.folder / command.words[1]
    text = source.read_text()
    for option in options:
        parameter = option.removeprefix("--").removeprefix("no-").replace("-", "_")
        assert f'"{option}"' in text or re.search(rf"^    {parameter}: ", text, re.MULTILINE), f"{command}: {option}"


@cache
def _cluster() -> dict[str, set[str]]:
    """What the overlays and components of Kubernetes have: `kind` in lower case -> names."""
    named: dict[str, set[str]] = {}
    for name in OVERLAYS:
        for manifest in build(K8S / "overlays" / name):
            named.setdefault(manifest["kind"].lower(), set()).add(manifest["metadata"]["name"])
            named.setdefault("label", set()).update(
                f"{key}={value}" for key, value in manifest["metadata"].get("labels", {}).items()
            )
    return named


@cache
def _kubernetes_files() -> str:
    return "\n".join(path.read_text() for path in sorted(K8S.rglob("*.yaml")))


def _check_kubectl(command: Command) -> None:
    words = list(command.words[1:])
    for option, value in pairwise(words):
        if option in ("-k", "kustomize"):
            assert build(command.folder / value), command
        elif option in ("-n", "--namespace"):
            assert re.search(rf"namespace: {value}$", _kubernetes_files(), re.MULTILINE), (
                f"{command}: no namespace {value}"
            )
        elif option == "-l":
            assert value in _cluster()["label"], f"{command}: nothing has the label {value}"
        elif option == "generic":
            assert re.search(rf"(name|secretName): {value}\b", _kubernetes_files()), f"{command}: no secret {value}"
    for word in words:
        kind, is_named, name = word.partition("/")
        if is_named and kind in ("deployment", "statefulset", "service", "job", "daemonset"):
            assert name in _cluster()[kind], f"{command}: no {word}"
    if words[:1] == ["create"] or "create" in words[:3]:
        _run_without_cluster([word for word in words if not word.startswith("--dry-run")], str(command))


def _run_without_cluster(words: list[str], what: str) -> None:
    """Have kubectl make the object and print it."""
    kubectl = Path(sys.executable).parent / "kubectl"
    arguments = [word.replace("keys.json", "pyproject.toml") for word in words if word not in ("-o", "yaml")]
    done = subprocess.run(
        [kubectl, *arguments, "--dry-run=client", "-o", "yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{what}: {done.stderr}"


def _check_helm(command: Command) -> None:
    """The chart's folder exists, and every value that is set is one of its values."""
    charts = [command.folder / word for word in command.words if (command.folder / word / "Chart.yaml").exists()]
    sets = [
        value for option, value in zip(command.words, command.words[1:], strict=False) if option.startswith("--set")
    ]
    needs_chart = command.words[1] in ("install", "upgrade", "template", "lint", "test", "package")
    assert charts or not needs_chart or any(word.startswith("oci://") for word in command.words), command
    for chart in charts:
        for pair in sets:
            values: Any = yaml.safe_load((chart / "values.yaml").read_text())
            for key in pair.partition("=")[0].split("."):
                assert key.partition("[")[0] in values, f"{command}: no value {pair}"
                values = values[key.partition("[")[0]]
                if not isinstance(values, dict) or not values:
                    break


def _check_files(command: Command) -> None:
    """Words that begin as a path of this repository lead somewhere."""
    roots = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    for word in command.words[1:]:
        path = re.sub(r"\[.*\]$", "", word.removeprefix("./"))
        first = path.partition("/")[0]
        if "/" in word and first in roots and not path.startswith(_UNTRACKED):
            assert (ROOT / path).exists() or (command.folder / path).exists(), f"{command}: no file {word}"
        if word.startswith("../"):
            assert (command.folder / word).exists(), f"{command}: no file {word}"
