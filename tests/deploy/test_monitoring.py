"""Rules, dashboards and pages use the metrics that the processes show: names, buckets, runbooks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.monitoring import dashboards, metrics_reference
from services.common.telemetry.metrics import DEFINITIONS
from tests.support.prometheus_tools import MONITORING, ROOT, rule_groups

RULES = [rule for group in rule_groups() for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in sorted((MONITORING / "dashboards").glob("*.json"))}
_NAME = re.compile(r"chroma_voice[_:][a-zA-Z0-9_:]+")


def autoscaling_queries() -> Iterator[str]:
    for path in sorted((ROOT / "deploy/k8s/components/autoscaling").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            for trigger in document.get("spec", {}).get("triggers", ()) if document["kind"] == "ScaledObject" else ():
                if "query" in trigger["metadata"]:
                    yield trigger["metadata"]["query"]


def unknown_names(query: str) -> set[str]:
    """The names in a PromQL query that no process shows and no rule records."""
    series = set(RECORDED)
    for metric in DEFINITIONS.values():
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        series.update(metric.name + end for end in ends)
    return set(_NAME.findall(query)) - series


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return dashboard["panels"]


def test_an_unknown_name_is_found() -> None:
    assert unknown_names("rate(chroma_voice_no_such_total[5m])") == {"chroma_voice_no_such_total"}


def test_every_name_in_rules_dashboards_and_autoscaling_is_a_metric() -> None:
    queries = [rule["expr"] for rule in RULES]
    queries += [
        target["expr"] for board in DASHBOARDS.values() for panel in panels(board) for target in panel["targets"]
    ]
    scaling = list(autoscaling_queries())
    assert scaling, "the autoscaling component asks Prometheus"
    for query in [*queries, *scaling]:
        assert not unknown_names(query), query


def test_every_bound_in_a_query_is_a_bucket() -> None:
    for rule in RULES:
        for name, bound in re.findall(r'(chroma_voice_\w+)_bucket\{[^}]*le="([^"]+)"', rule["expr"]):
            assert float(bound) in DEFINITIONS[name].buckets, rule["expr"]


def test_the_metrics_page_is_up_to_date() -> None:
    assert metrics_reference.PAGE.read_text() == metrics_reference.page(), "run: make generated"


def test_the_dashboards_are_up_to_date() -> None:
    written = {path.name: path.read_text() for path in (MONITORING / "dashboards").glob("*.json")}
    assert written == dashboards.files(), "run: make generated"


def test_every_dashboard_is_handed_to_grafana() -> None:
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    (generator,) = kustomization["configMapGenerator"]
    assert {path.removeprefix("dashboards/") for path in generator["files"]} == DASHBOARDS.keys()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_ids_and_places_of_their_own(name: str) -> None:
    board = panels(DASHBOARDS[name])
    assert len({panel["id"] for panel in board}) == len(board)
    taken: set[tuple[int, int]] = set()
    for panel in board:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_runbook_and_a_severity(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^### (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_metric_has_a_unit_and_a_meaning() -> None:
    for metric in DEFINITIONS.values():
        assert metric.meaning.endswith("."), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_width")), metric.name
            assert list(metric.buckets) == sorted(metric.buckets), metric.name


def test_no_label_can_hold_an_id() -> None:
    bounded = {"service", "version", "python", "fingerprint", "dtype", "device", "method", "status", "kind", "source"}
    bounded |= {"weights", "weights_fingerprint"}  # of the checkpoint info: one of each for a process
    bounded |= {"reason", "outcome", "reply", "stage", "state", "operation", "phase", "file", "part", "face"}
    for metric in DEFINITIONS.values():
        assert set(metric.labels) <= bounded, metric.name
