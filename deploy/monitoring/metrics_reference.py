"""Writes docs/metrics.md from the definitions of the metrics: `python -m deploy.monitoring.metrics_reference`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase

from gateway import metrics as gateway_metrics
from services.common.telemetry import engine_metrics, process_metrics
from services.common.telemetry.metrics import DEFINITIONS, Definition, ScrapedCounter

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

SECTIONS: tuple[tuple[str, str, ModuleType], ...] = (
    (
        "Every process",
        "`service` is gateway, reasoner, speech_gen or codec. `process_*` and `python_*` come with the client library.",
        process_metrics,
    ),
    (
        "Engines",
        "Shown by reasoner, speech_gen and codec. `kind` of a step: prefill, hear, think (reasoner), prefill, frame "
        "(speech_gen), encode, decode (codec). `kind` of a slot: think, speak, encode, decode.",
        engine_metrics,
    ),
    (
        "Conversations",
        "Shown by the gateway. The listener is taken to play a reply from its first sound on, without a buffer; the "
        "network behind the gateway is not seen. `stage` of replicas: reasoner, speech_gen, codec.",
        gateway_metrics,
    ),
)

INTRODUCTION = """# Metrics

Made from the code by `make generated`; a test checks that it is up to date.

Every process shows its metrics over HTTP at `/metrics` on `CHROMA_METRICS_LISTEN`. Units are seconds and bytes. Labels
are bounded: no ids, no text. Asked for OpenMetrics, `chroma_voice_first_sound_seconds` and
`chroma_voice_turn_underrun_seconds` carry the turn's id (for `chroma-voice trace`) and its `trace_id` as an exemplar.
"""


def names(module: ModuleType) -> list[str]:
    """The metrics that a module defines or imports, in the order of the module."""
    found = []
    for value in vars(module).values():
        if isinstance(value, (MetricWrapperBase, ScrapedCounter)):
            (family,) = value.describe()
            found.append(family.name + ("_total" if family.type == "counter" else ""))
    return found


def page() -> str:
    """The text of docs/metrics.md."""
    parts = [INTRODUCTION]
    shown: set[str] = set()
    for title, explanation, module in SECTIONS:
        parts.append(f"\n## {title}\n\n{explanation}\n\n| name | kind | labels | meaning |\n|---|---|---|---|\n")
        for name in names(module):
            if name not in shown:
                shown.add(name)
                parts.append(_row(DEFINITIONS[name]))
    missing = DEFINITIONS.keys() - shown
    assert not missing, f"defined in no section: {missing}"
    return "".join(parts)


def _row(metric: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}." if metric.buckets else ""
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning}{buckets} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
