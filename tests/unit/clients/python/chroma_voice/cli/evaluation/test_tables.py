"""Tables in a terminal of 80 columns show whole names, and markup stays text."""

import io

from rich.console import Console

from chroma_voice.cli.evaluation.tables import figure_table, quality_table
from tests.support.eval_results import results


def shown(table: object) -> str:
    output = io.StringIO()
    Console(file=output, width=80).print(table)
    return output.getvalue()


def test_names_and_figures_fit() -> None:
    text = shown(quality_table(results().summary, "[red]here"))
    assert "[red]here" in text
    for part in ("voice with itself", "another speaker", "similarity", "nearest", "66.7%"):
        assert part in text
    assert "…" not in text + shown(figure_table(results().summary))
