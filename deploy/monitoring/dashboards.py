"""Writes the Grafana dashboards: `python -m deploy.monitoring.dashboards`.

A dashboard is a list of rows. A row is a list of panels of equal width. Grafana imports the JSON;
deploy/k8s/components/monitoring hands it to Grafana's sidecar.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.monitoring.panels import HERE, Dashboard, Panel, graph, mean, number, quantiles, rate, to_json

FOLDER = Path(__file__).parents[1] / "k8s" / "components" / "monitoring" / "dashboards"

FIRST_SOUND = "chroma_voice_first_sound_seconds"
GENERATED = f'{HERE},reply="generated"'
UNDERRUN = "chroma_voice_turn_underrun_seconds"
WITHOUT_GAP = f'{HERE},le="0.0"'
FAILED = f'{HERE},outcome="failed"'
CACHED = f'{HERE},source="cached"'

OVERVIEW = Dashboard(
    "chroma-voice-overview",
    "Chroma voice: overview",
    (
        (
            number("Live conversations", f"sum(chroma_voice_conversations{{{HERE}}})"),
            number("Turns a minute", f"60 * {rate('chroma_voice_turns_total')}"),
            number(
                "First sound, median", f"histogram_quantile(0.5, {rate(FIRST_SOUND + '_bucket', 'le', GENERATED)})", "s"
            ),
            number(
                "Replies without a gap",
                f"{rate(UNDERRUN + '_bucket', '', WITHOUT_GAP)} / {rate(UNDERRUN + '_count')}",
                "percentunit",
            ),
        ),
        (
            quantiles(
                "First sound", FIRST_SOUND, GENERATED, note="From the user's commit. Objective: 99 % within 1 s."
            ),
            graph("Conversations", f"sum(chroma_voice_conversations{{{HERE}}})", "open"),
        ),
        (
            graph("Turns by outcome", rate("chroma_voice_turns_total", "outcome"), "{{outcome}}", "reqps"),
            graph(
                "Failed turns by status",
                f"{rate('chroma_voice_turns_total', 'status', FAILED)} or on () vector(0)",
                "{{status}}",
                "reqps",
            ),
        ),
        (
            Panel(
                "Underruns and barge-ins",
                (
                    (rate("chroma_voice_underruns_total"), "underruns"),
                    (rate("chroma_voice_barge_ins_total"), "barge-ins"),
                ),
                "reqps",
            ),
            Panel(
                "Speech",
                (
                    (rate("chroma_voice_input_audio_seconds_total"), "received"),
                    (rate("chroma_voice_output_audio_seconds_total"), "spoken"),
                    (rate("chroma_voice_unheard_audio_seconds_total"), "made in vain"),
                ),
                note="Seconds of speech a second, counted when the turn ends.",
            ),
        ),
    ),
)

TURN_STAGES = Dashboard(
    "chroma-voice-turn-stages",
    "Chroma voice: stages of a turn",
    (
        (
            graph(
                "Way to the first sound, mean",
                mean("chroma_voice_stage_seconds", "stage"),
                "{{stage}}",
                "s",
                note="The stages add up to the time to the first sound.",
            ),
            graph(
                "Way to the first sound, p95 of each stage",
                f"histogram_quantile(0.95, {rate('chroma_voice_stage_seconds_bucket', 'stage, le')})",
                "{{stage}}",
                "s",
            ),
        ),
        (
            quantiles("Between two pieces of sound", "chroma_voice_audio_gap_seconds", note="A frame lasts 80 ms."),
            quantiles("Silence inside a reply", UNDERRUN),
        ),
        (
            quantiles("Wait for a slot", "chroma_voice_queue_wait_seconds", by="service"),
            graph(
                "Refused",
                rate("chroma_voice_admission_refused_total", "service, reason"),
                "{{service}}: {{reason}}",
                "reqps",
            ),
        ),
        (
            quantiles("Redis", "chroma_voice_store_seconds", by="operation"),
            Panel(
                "What Redis did not do",
                (
                    (rate("chroma_voice_store_errors_total", "operation"), "failed {{operation}}"),
                    (rate("chroma_voice_turns_unrecorded_total"), "unrecorded turns"),
                ),
                "reqps",
            ),
        ),
    ),
)

ENGINE = Dashboard(
    "chroma-voice-engine",
    "Chroma voice: engines",
    (
        (
            graph(
                "Slots in use",
                f"sum by (service, kind) (chroma_voice_slots_used{{{HERE}}})"
                f" / (sum by (service, kind) (chroma_voice_slots_used{{{HERE}}})"
                f" + sum by (service, kind) (chroma_voice_slots_free{{{HERE}}}))",
                "{{service}} {{kind}}",
                "percentunit",
            ),
            graph(
                "KV pages in use",
                f"sum by (service) (chroma_voice_kv_pages_used{{{HERE}}}) / (sum by (service)"
                f" (chroma_voice_kv_pages_used{{{HERE}}}) + sum by (service) (chroma_voice_kv_pages_free{{{HERE}}}))",
                "{{service}}",
                "percentunit",
                note="Kept prefixes count as used; they leave when a stream needs the page.",
            ),
        ),
        (
            graph("Step time, mean", mean("chroma_voice_step_seconds", "service, kind"), "{{service}} {{kind}}", "s"),
            graph("Step width, mean", mean("chroma_voice_step_width", "service, kind"), "{{service}} {{kind}}"),
        ),
        (
            graph(
                "Step time, p99",
                f"histogram_quantile(0.99, {rate('chroma_voice_step_seconds_bucket', 'service, kind, le')})",
                "{{service}} {{kind}}",
                "s",
            ),
            graph(
                "Share of time in steps",
                f"sum by (service, kind, instance) (rate(chroma_voice_step_seconds_sum{{{HERE}}}[$__rate_interval]))",
                "{{instance}} {{service}} {{kind}}",
                "percentunit",
            ),
        ),
        (
            graph(
                "Prompt rows from the cache",
                f"{rate('chroma_voice_prompt_rows_total', 'service', CACHED)}"
                f" / {rate('chroma_voice_prompt_rows_total', 'service')}",
                "{{service}}",
                "percentunit",
            ),
            graph(
                "Frames",
                rate("chroma_voice_frames_total", "service"),
                "{{service}}",
                note="A listener takes 12.5 a second.",
            ),
        ),
        (
            Panel(
                "What went wrong",
                (
                    (rate("chroma_voice_step_errors_total", "service"), "failed steps of {{service}}"),
                    (rate("chroma_voice_redone_chunks_total"), "chunks encoded again"),
                ),
                "reqps",
            ),
            graph("Replicas", f"sum by (stage, state) (chroma_voice_replicas{{{HERE}}})", "{{stage}} {{state}}"),
        ),
        (
            graph("gRPC calls", rate("chroma_voice_rpcs_total", "method, status"), "{{method}} {{status}}", "reqps"),
            graph("Calls running", f"sum by (method) (chroma_voice_rpcs_running{{{HERE}}})", "{{method}}"),
        ),
        (
            graph(
                "Memory",
                f"sum by (service, instance) (process_resident_memory_bytes{{{HERE}}}"
                f" * on (instance) group_left (service) chroma_voice_build_info{{{HERE}}})",
                "{{service}} {{instance}}",
                "bytes",
            ),
            graph(
                "Processors",
                f"sum by (service, instance) (rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])"
                f" * on (instance) group_left (service) chroma_voice_build_info{{{HERE}}})",
                "{{service}} {{instance}}",
            ),
        ),
        (
            Panel(
                "What runs",
                (
                    (f"sum by (service, version) (chroma_voice_build_info{{{HERE}}})", "{{service}} {{version}}"),
                    (
                        "sum by (service, fingerprint, dtype, device, weights) "
                        f"(chroma_voice_checkpoint_info{{{HERE}}})",
                        "{{service}} {{fingerprint}} {{dtype}} {{device}} {{weights}}",
                    ),
                ),
            ),
            graph(
                "Serving", f"sum by (service, instance) (chroma_voice_serving{{{HERE}}})", "{{service}} {{instance}}"
            ),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, TURN_STAGES, ENGINE)


def files() -> dict[str, str]:
    """The content of each dashboard, by file name."""
    return {f"{dashboard.uid}.json": _text(to_json(dashboard)) for dashboard in DASHBOARDS}


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
