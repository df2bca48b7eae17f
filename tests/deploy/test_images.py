"""The Dockerfile without a container engine: it is linted, and each RUN step runs in a clean environment."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.build_context import copy_context
from tests.support.manifests import DEPLOY, ROOT, SETTINGS

DOCKERFILE = DEPLOY / "Dockerfile"
FOLDERS = ("/opt/chroma-voice", "/source", "/locks", "/code", "/wheels", "/models", "/compile-cache")
"""Absolute folders of the build. In these tests they lie below a temporary folder."""


KNOWN_TO_ALL: dict[str, set[str]] = {
    **{name: set() for name in ("ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "USER", "WORKDIR")},
    "COPY": {"--from"},
    "HEALTHCHECK": {"--interval", "--timeout", "--start-period"},
    "RUN": {"--mount"},
}
"""The instructions, each with its flags, that BuildKit and Debian 12's buildah know."""


@dataclass
class Stage:
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def words(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.steps if name == instruction]


def stages() -> dict[str, Stage]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    current = Stage("")
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name or "final"] = Stage(base)
        elif instruction:
            current.steps.append((instruction, rest))
    return found


def image_command(service: str) -> list[str]:
    """The arguments after the interpreter in the image of a service."""
    (command,) = stages()[service].words("CMD")
    return re.findall(r'"([^"]+)"', command)


def stages_above(target: str) -> list[str]:
    """The stages whose files are in the image of a target."""
    found = stages()[target]
    sources = [match[1] for step in found.words("COPY") if (match := re.match(r"--from=(\S+)", step))]
    bases = [name for name in (found.base, *sources) if name in stages()]
    return [name for base in bases for name in (*stages_above(base), base)]


def run_step(step: str, root: Path, environment: dict[str, str]) -> None:
    step = re.sub(r"--mount=\S+", "", step)
    for folder in FOLDERS:
        step = re.sub(rf"(?<![\w.]){folder}(?![\w-])", str(root) + folder, step)
    result = subprocess.run(
        ["sh", "-c", step], cwd=root / "source", env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{step}\n{result.stdout}\n{result.stderr}"


def has_package_index() -> bool:
    probe = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "hatchling==1.33.0",
    ]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_every_service_has_an_image_that_runs_its_process() -> None:
    assert {service: image_command(service) for service in SETTINGS} == {
        "gateway": ["gateway"],
        "reasoner": ["services.reasoner"],
        "speech-gen": ["services.speech_gen"],
        "codec": ["services.codec"],
    }


def test_the_gateways_image_is_built_without_torch() -> None:
    order = list(stages())
    assert "model-packages" not in stages_above("gateway")
    # The engines of Debian 12 run every stage above the target, whether it is needed or not.
    assert order.index("gateway") < order.index("model-packages")


def test_the_model_services_share_their_layers() -> None:
    for service in ("reasoner", "speech-gen", "codec"):
        assert stages()[service].base == "models"
        assert {name for name, _ in stages()[service].steps} == {"LABEL", "CMD"}, "neither makes a layer"


def test_only_torch_comes_from_its_own_index() -> None:
    (step,) = stages()["model-packages"].words("RUN")
    installs = [command for command in step.split("&&") if "${index}" in command]
    assert [re.findall(r"-r (\S+)", command) for command in installs] == [['"/locks/torch-${VARIANT}.txt"']]
    assert DOCKERFILE.read_text().count("${TORCH_INDEX}") == 1


def test_every_wheel_is_checked_against_its_hash() -> None:
    installs = [
        step
        for stage in stages().values()
        for run in stage.words("RUN")
        for step in run.split("&&")
        if "install " in step
    ]
    fetching = [step for step in installs if "-r " in step]
    assert len(fetching) == 4
    assert all("--require-hashes" in step for step in fetching)
    assert all("--no-index" in step for step in installs if "pip install" in step and "-r " not in step)


def test_an_image_names_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in DOCKERFILE.read_text()
    for service in SETTINGS:
        labels = " ".join(
            label for name in (*stages_above(service), service) for label in stages()[name].words("LABEL")
        )
        for name in ("title", "description", "version", "revision", "base.name"):
            assert f"org.opencontainers.image.{name}=" in labels, service


def test_every_builder_knows_each_instruction_and_flag() -> None:
    text = DOCKERFILE.read_text()
    assert "<<" not in text, "a here-document"
    assert not re.search(r"^#\s*(syntax|escape|check)\s*=", text, re.MULTILINE), "BuildKit would fetch another parser"
    assert set(re.findall(r"--mount=(\S+)", text)) == {"type=bind,source=deploy/wheels,target=/wheels"}
    for name, stage in stages().items():
        assert not stage.base.startswith("--")
        for instruction, rest in stage.steps:
            words = itertools.takewhile(lambda word: word.startswith("--"), rest.split())
            flags = {word.partition("=")[0] for word in words}
            assert flags <= KNOWN_TO_ALL[instruction], f"{name}: {instruction}"


def test_the_image_runs_as_a_user_without_rights() -> None:
    assert stages()["runtime"].words("USER") == ["10001:10001"]
    assert not [stage for stage in SETTINGS if stages()[stage].words("USER")]


def test_tensors_lie_in_large_pages() -> None:
    (environment,) = stages()["runtime"].words("ENV")
    assert "THP_MEM_ALLOC_ENABLE=1" in environment.split()


def test_only_sources_reach_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert not [line for line in lines if line.startswith("!") and not (ROOT / line[1:]).exists()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("service", ["gateway", "codec"])
def test_every_step_of_the_build_works_in_a_clean_environment(service: str, tmp_path: Path) -> None:
    if not has_package_index():
        pytest.skip("no package index can be reached")
    for folder in FOLDERS:
        (tmp_path / folder[1:]).parent.mkdir(parents=True, exist_ok=True)
    copy_context(tmp_path / "source")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "python"], check=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CHROMA_", "PYTHON", "VIRTUAL"))},
        "PATH": f"{tmp_path / 'python' / 'bin'}:/usr/bin:/bin",
        "VARIANT": "cpu",
        "TORCH_INDEX": f"file://{tmp_path}/index",
    }
    (tmp_path / "index" / "cpu").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    shutil.copytree(tmp_path / "source" / "deploy" / "requirements", tmp_path / "locks")
    parsed = stages()
    packages = tmp_path / "opt" / "chroma-voice"
    for name in ("code", "gateway-packages" if service == "gateway" else "model-packages"):
        shutil.rmtree(packages, ignore_errors=True)
        for step in parsed[name].words("RUN"):
            run_step(step, tmp_path, environment)
    shutil.copytree(tmp_path / "code", packages, dirs_exist_ok=True)

    python = tmp_path / "opt/chroma-voice/bin/python"
    del environment["PATH"]
    listing = subprocess.run(
        [python, "-c", "import importlib.metadata as m; print(*[d.name.lower() for d in m.distributions()])"],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert ("torch" in listing) == (service != "gateway")
    assert ("redis" in listing) == (service == "gateway")
    assert "pip" not in listing
    started = subprocess.run(
        [python, "-m", *image_command(service)], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert started.returncode == 2, started.stderr
    assert "bad setting CHROMA_" in started.stderr
