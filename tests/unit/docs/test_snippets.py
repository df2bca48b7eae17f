"""Every snippet of every document is run by a test as it stands."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from gateway.access.keys import Keys
from tests.support.documented_commands import check, check_names
from tests.support.paths import ROOT
from tests.support.snippets import (
    Snippet,
    code_in_sentences,
    commands_of,
    pages,
    snippet_that_begins,
    snippets_of,
)

RUN = {
    "README.md": "tests/e2e/test_readme.py",
    "clients/python/README.md": "tests/e2e/test_readme.py",
    "docs/api.md": "tests/e2e/test_api_guide.py",
    "docs/migration.md": "tests/e2e/test_api_guide.py",
}
"""The pages whose `sh` and `python` blocks a test runs, in their order."""
HELD = {
    ("docs/client.md", "python"): "tests/deploy/test_client_reference.py",
    ("docs/api.md", "js"): "tests/e2e/page/test_webrtc.py",
    ("docs/api.md", "xml"): "tests/integration/gateway/test_twilio.py",
    ("docs/troubleshooting.md", "text"): "tests/unit/docs/test_troubleshooting.py",
    ("SECURITY.md", "text"): "tests/unit/docs/test_security.py",
}
"""Blocks with a test of their own, which are no commands. `js` and `xml` are used as they stand; signatures and
messages are compared."""
CHECKED = ("json", "yaml")
"""Files that are read, below, by what reads them in use: keys by the gateway, values by the schema of the chart."""

_FOLDERS = "docs|deploy|tests|samples|protos|gateway|services|bench|train|examples"
_PATH = re.compile(rf"(?:^|\s)((?:{_FOLDERS})/[\w./-]+)(?![\w*.-])")
"""A file or folder of the repository, and not a pattern such as `docs/*.md`."""

SNIPPETS = [snippet for page in pages() for snippet in snippets_of(page)]
SPANS = {(page, span) for page in pages() for span in code_in_sentences(page)}


def test_every_fence_is_closed_and_says_its_language() -> None:
    for page in pages():
        fences = re.findall(r"^\s*```.*$", (ROOT / page).read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(snippets_of(page)), f"{page}: a fence is indented or not closed"
    assert not [str(snippet) for snippet in SNIPPETS if not snippet.language]


def taken(source: str) -> list[tuple[str, str]]:
    """The page and the first words of each block that the code of a test takes by name, to run it."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    named = [call.args for call in calls if getattr(call.func, "id", "") == "snippet_that_begins"]
    texts = [[str(it.value) for it in arguments if isinstance(it, ast.Constant)] for arguments in named]
    return [(page, words) for page, words in (it for it in texts if it)]


def test_each_bash_block_is_run_by_a_test() -> None:
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name]
    words = [it for source in sources if "snippet_that_begins(" in source for it in taken(source)]
    run = {snippet_that_begins(*it) for it in words}
    lost = {str(it) for it in SNIPPETS if it.language == "bash" and it not in run}
    assert not lost, "no test takes it: run it as it stands, or show its commands in a sentence or a table"


def changed(source: str) -> list[str]:
    """The code that changes a block: what a method such as `replace` or `re.sub` is given of `snippet.code`."""
    tree = ast.parse(source)

    def has_code(node: ast.AST, names: set[str]) -> bool:
        found = list(ast.walk(node))
        return any(isinstance(it, ast.Attribute) and it.attr == "code" for it in found) or any(
            isinstance(it, ast.Name) and it.id in names for it in found
        )

    assigned = [it for it in ast.walk(tree) if isinstance(it, ast.Assign) and has_code(it.value, set())]
    names = {name.id for it in assigned for name in it.targets if isinstance(name, ast.Name)}
    calls = [it for it in ast.walk(tree) if isinstance(it, ast.Call) and isinstance(it.func, ast.Attribute)]
    changing = {"replace", "sub", "format", "removeprefix", "removesuffix", "translate"}
    return [ast.unparse(it) for it in calls if it.func.attr in changing and has_code(it, names)]  # type: ignore[attr-defined]


def test_no_test_changes_a_block_before_it_runs() -> None:
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name]
    users = [it for it in sources if "snippet_that_begins(" in it or "snippets_of(" in it]
    assert not [line for source in users for line in changed(source)]


def test_the_scan_finds_a_block_that_is_changed() -> None:
    source = (
        'own = snippet.code.strip()\nrun(own.replace("1", "2"))\nre.sub("a", "b", it.code)\nother.replace("1", "2")'
    )
    assert sorted(changed(source)) == ["own.replace('1', '2')", "re.sub('a', 'b', it.code)"]


def test_the_scan_finds_the_block_that_a_test_takes() -> None:
    source = 'def test_it():\n    run(snippet_that_begins("README.md", "git clone").code)\n    other("a", "b")'
    assert taken(source) == [("README.md", "git clone")]


@pytest.mark.parametrize("snippet", [it for it in SNIPPETS if it.language != "bash"], ids=str)
def test_a_test_holds_every_other_snippet(snippet: Snippet) -> None:
    if snippet.language in ("sh", "python") and snippet.page in RUN:
        test = RUN[snippet.page]
    elif (snippet.page, snippet.language) in HELD:
        test = HELD[snippet.page, snippet.language]
    else:
        assert snippet.language in CHECKED, f"{snippet}: no test runs or checks {snippet.language!r} of this page"
        return
    assert (ROOT / test).exists()


@pytest.mark.parametrize("snippet", [it for it in SNIPPETS if it.language in ("sh", "bash")], ids=str)
def test_the_commands_of_a_shell_snippet_exist(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    syntax = subprocess.run(["bash", "-n"], input=snippet.code, capture_output=True, text=True, check=False)
    assert not syntax.stderr, f"{snippet}: {syntax.stderr}"
    monkeypatch.chdir(ROOT)
    for command in commands_of(snippet.code):
        check(command)


@pytest.mark.parametrize("snippet", [it for it in SNIPPETS if it.language == "python"], ids=str)
def test_a_python_snippet_parses(snippet: Snippet) -> None:
    if (snippet.page, snippet.language) in HELD:
        return  # a signature
    ast.parse(snippet.code)


@pytest.mark.parametrize("snippet", [it for it in SNIPPETS if it.language == "json"], ids=str)
def test_a_file_of_keys_in_a_document_is_valid(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(re.sub(r'"[0-9a-f]*\.\.\."', f'"{"0" * 64}"', snippet.code))  # the hash is left out
    Keys({}, file)  # raises BadSetting


@pytest.mark.parametrize("snippet", [it for it in SNIPPETS if it.language == "yaml"], ids=str)
def test_values_of_the_chart_in_a_document_fit_its_schema(snippet: Snippet) -> None:
    described = yaml.safe_load(snippet.code)
    if "apiVersion" in described:  # an object for a controller that a cluster may have, whose schema we do not keep
        assert all((described["kind"], described["metadata"]["name"], described["spec"]))
        return
    schema = json.loads((ROOT / "deploy" / "helm" / "chroma-voice" / "values.schema.json").read_text())
    jsonschema.validate(described, schema)


@pytest.mark.parametrize(
    ("page", "span"),
    sorted(it for it in SPANS if re.match(r"(chroma-voice|make|python -m) \S", it[1])),
    ids=lambda part: part,
)
def test_a_command_in_a_sentence_exists(page: str, span: str) -> None:
    for command in commands_of(span.replace("|", "¦")):
        check_names([word.replace("¦", "|") for word in command.words])


@pytest.mark.parametrize(
    ("page", "path"),
    sorted({(page, path) for page, span in SPANS for path in _PATH.findall(span)}),
)
def test_a_file_in_a_sentence_exists(page: str, path: str) -> None:
    if not path.startswith("deploy/wheels"):
        assert (ROOT / path.rstrip("./")).exists(), f"{page} names {path}"


def test_every_address_in_a_document_is_served() -> None:
    routes = re.findall(r'Route\("(/[^"]+)"', (ROOT / "gateway" / "api" / "app.py").read_text())
    served = {re.sub(r"\{\w+\}", "*", route) for route in routes}
    assert "/v1/voices/*" in served
    named = {
        (page, path)
        for page, span in SPANS
        for path in re.findall(r"(?:^|\s|HOST|URL|=)(/(?:v1|healthz|health|openapi)\b[\w/.{}-]*)", span)
    }
    # prefixes, and what api.md says is missing
    not_served = {"/v1", "/v1/", "/v1/audio/translations", "/v1/responses/*"}
    wrong = {
        (page, path)
        for page, path in named
        if re.sub(r"(?<=/)([A-Z_]+|\{\w+\})(?=/|$)", "*", path) not in served | not_served
    }
    assert not wrong
