from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documented_stack import DocumentedStack, started
from tests.support.local_stack import LocalStack, running
from tests.support.snippets import snippet_that_begins


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with running(tmp_path_factory.mktemp("state")) as stack:
        yield stack


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """As `stack`, with chroma-nano, for tests that need sound in a reply. Random weights may end speech at once."""
    with running(tmp_path_factory.mktemp("nano"), model="") as stack:
        yield stack


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocumentedStack]:
    """chroma-nano with the sample voices, as four pages start it."""
    starts = {
        snippet_that_begins("docs/api.md", "chroma-voice up").code,
        snippet_that_begins("docs/bench.md", "chroma-voice up").code,
        snippet_that_begins("clients/go/README.md", "chroma-voice up").code,
        snippet_that_begins("clients/node/README.md", "chroma-voice up").code,
    }
    (start,) = starts
    with started(start, tmp_path_factory.mktemp("documented")) as stack:
        yield stack
