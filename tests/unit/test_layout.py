"""The layout's promises that import-linter cannot hold.

- A unit test lies where its module lies: `tests/unit/<folders>/test_<module>.py` tests `<folders>/<module>.py`.
  `__init__.py` and `__main__.py` count as modules named `init` and `main`.
- A helper of tests lies in `tests/support/`.
- A module imports what it needs: no import of our own packages hides behind `if TYPE_CHECKING`.
- Settings come from one place: nothing else reads the process's environment.
- A source file has at most 400 lines.
- A folder of the source that users install has at most 16 modules.

`python -m tests.unit.test_layout` lists the modules without a unit test of their own.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

UNIT = ROOT / "tests" / "unit"
SERVED = ("services", "gateway", "checkpoints", "clients/python/chroma_voice")
"""The source that users install."""
SOURCE = (*SERVED, "reference", "train", "bench")
OUR_PACKAGES = {"services", "gateway", "checkpoints", "chroma_voice", "reference", "train", "bench", "tests", "chroma"}
MAX_LINES = 400
MAX_MODULES = 16

NOT_OF_A_MODULE = {
    "test_layout.py": "the tree itself",
    "test_setup.py": "the Makefile, where it installs torch",
    "docs/test_figures.py": "the measured figures of every page and of the served source",
    "docs/test_links.py": "the pages of docs/ and README.md",
    "docs/test_snippets.py": "the snippets of every page",
    "docs/test_blocks.py": "those that need no running system, which are run",
    "docs/test_documented_commands.py": "tests/support/documented_commands.py, which checks them",
    "docs/test_security.py": "SECURITY.md, whose tests must exist",
    "docs/test_troubleshooting.py": "docs/troubleshooting.md, whose errors are provoked one by one",
}
FURTHER_TESTS = {
    "gateway/pipeline/test_turn_seats.py": "gateway/pipeline/turn.py",
    "services/runtime/engine/test_engine_failures.py": "services/runtime/engine/engine.py",
    "services/reasoner/test_prefix_reuse.py": "services/reasoner/runner.py",
    "services/reasoner/test_prefix_sharing.py": "services/reasoner/runner.py",
}
"""A second test file of a module whose tests would fill more than one."""

TEST_PROGRAMS = ("conformance", "fuzz", "clients_py")
"""Folders of tests/ that hold a program with its modules: `python -m tests.conformance` compares with golden data, and
`python -m tests.fuzz` tries hostile input. tests/clients_py has a program for each stock client."""

READS_THE_ENVIRONMENT = {
    "services/__init__.py": "settings that PyTorch's OpenMP library and gRPC read while they are loaded",
    "services/common/fork_server.py": "the environment of a process that it starts",
    "services/common/settings.py": "the settings of every process",
    "clients/python/chroma_voice/cli/gateway_address.py": "an API key that no option takes, since options are public",
    "clients/python/chroma_voice/cli/launcher/up.py": "the launcher hands its environment to its processes",
}


def sources(*folders: str) -> list[Path]:
    """The Python files of some folders, from the root of the repository."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(test: Path) -> Iterator[Path]:
    """Where the module of a unit test may lie; both paths start at the root of their tree."""
    name = test.stem.removeprefix("test_")
    yield test.with_name(f"{name}.py")
    yield test.with_name(f"__{name}__.py")


def unit_test_of(module: Path) -> Path:
    """Where the unit test of a module lies, from tests/unit."""
    return module.with_name(f"test_{module.stem.strip('_')}.py")


def imports_for_types_only(source: str) -> list[str]:
    """Our packages that a file imports under `if TYPE_CHECKING`."""
    found = []
    for branch in ast.walk(ast.parse(source)):
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test):
            for node in ast.walk(branch):
                if isinstance(node, ast.ImportFrom):
                    found.append("." * node.level + (node.module or ""))
                elif isinstance(node, ast.Import):
                    found.extend(alias.name for alias in node.names)
    return [name for name in found if name.split(".")[0] in OUR_PACKAGES or name.startswith(".")]


def reads_environment(source: str) -> bool:
    """Whether a file names `os.environ` or `os.getenv`, or imports one of them."""
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os":
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names}:
            return True
    return False


def test_every_unit_test_has_its_module_at_the_same_path() -> None:
    tests = {path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")}
    excepted = {Path(name) for name in (*NOT_OF_A_MODULE, *FURTHER_TESTS)}
    lost = [str(test) for test in tests - excepted if not any((ROOT / module).is_file() for module in module_of(test))]
    assert not sorted(lost)


def test_every_exception_is_still_needed() -> None:
    assert not [name for name in (*NOT_OF_A_MODULE, *FURTHER_TESTS) if not (UNIT / name).is_file()]
    assert not [name for name in FURTHER_TESTS.values() if not (UNIT / unit_test_of(Path(name))).is_file()]
    assert not [name for name in READS_THE_ENVIRONMENT if not reads_environment((ROOT / name).read_text())]


def test_helpers_of_tests_lie_in_support_only() -> None:
    elsewhere = [
        str(path)
        for path in sources("tests")
        if path.parts[1] not in ("support", *TEST_PROGRAMS)
        and not path.name.startswith("test_")
        and path.name not in ("conftest.py", "__init__.py")
    ]
    assert not elsewhere
    assert not list((ROOT / "tests" / "support").rglob("test_*.py"))


def test_no_import_of_our_packages_hides_behind_type_checking() -> None:
    hidden = {str(path): imports_for_types_only((ROOT / path).read_text()) for path in sources(*SOURCE, "tests")}
    assert not {path: names for path, names in hidden.items() if names}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("if TYPE_CHECKING:\n    from services.common import errors", ["services.common"]),
        ("if typing.TYPE_CHECKING:\n    import gateway.tasks", ["gateway.tasks"]),
        ("if TYPE_CHECKING:\n    from .sibling import Name", [".sibling"]),
        ("if TYPE_CHECKING:\n    import redis", []),
        ("from services.common import errors", []),
    ],
)
def test_the_scan_finds_an_import_for_types_only(source: str, found: list[str]) -> None:
    assert imports_for_types_only(source) == found


def test_only_settings_and_launcher_read_the_environment() -> None:
    readers = {str(path) for path in sources(*SERVED) if reads_environment((ROOT / path).read_text())}
    assert readers == set(READS_THE_ENVIRONMENT)


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import os\nos.environ['A']", True),
        ("import os\nos.getenv('A')", True),
        ("from os import environ", True),
        ("import os\nos.fork()", False),
        ("stack.environ", False),
    ],
)
def test_the_scan_finds_a_reader_of_the_environment(source: str, reads: bool) -> None:
    assert reads_environment(source) == reads


def test_no_source_file_is_longer_than_400_lines() -> None:
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in sources(*SOURCE)}
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def test_no_folder_that_users_install_has_more_than_16_modules() -> None:
    folders = Counter(str(path.parent) for path in sources(*SERVED) if path.name != "__init__.py")
    assert not {folder: count for folder, count in folders.items() if count > MAX_MODULES}


if __name__ == "__main__":
    for module in sources(*SOURCE):
        if module.name != "__init__.py" and not (UNIT / unit_test_of(module)).is_file():
            print(module, len((ROOT / module).read_text().splitlines()))
