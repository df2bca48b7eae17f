"""The panels of a dashboard and their JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

HERE = 'namespace=~"$namespace"'
"""Selects the namespace of the dashboard's variable. Outside Kubernetes the label is missing: `.*` matches that."""

_COLUMNS, _GRAPH_HEIGHT, _NUMBER_HEIGHT = 24, 8, 4
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """A panel. `queries` are pairs of PromQL and legend. `unit` is Grafana's id, such as `s`, `short`, `percentunit`,
    `reqps`.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    note: str = ""
    kind: Literal["timeseries", "stat"] = "timeseries"


@dataclass(frozen=True)
class Dashboard:
    """A page of panels in rows."""

    uid: str
    title: str
    rows: tuple[tuple[Panel, ...], ...]


def graph(title: str, query: str, legend: str, unit: str = "short", *, note: str = "") -> Panel:
    """A panel with the graph of one query."""
    return Panel(title, ((query, legend),), unit, note)


def number(title: str, query: str, unit: str = "short") -> Panel:
    """A panel with one number: the present value of a query."""
    return Panel(title, ((query, ""),), unit, kind="stat")


def quantiles(title: str, metric: str, selector: str = HERE, *, by: str = "", note: str = "") -> Panel:
    """A panel with the median and the 95th and 99th percentile of a histogram of seconds, for each value of the label
    `by`.
    """
    buckets = rate(f"{metric}_bucket", f"{by}, le" if by else "le", selector)
    legend = f"{{{{{by}}}}} " if by else ""
    queries = [(f"histogram_quantile({q}, {buckets})", f"{legend}p{q * 100:g}") for q in (0.5, 0.95, 0.99)]
    return Panel(title, tuple(queries), "s", note)


def mean(metric: str, by: str) -> str:
    """A panel with the mean of what a histogram observed."""
    return f"{rate(metric + '_sum', by)} / {rate(metric + '_count', by)}"


def rate(metric: str, by: str = "", selector: str = HERE) -> str:
    """A panel with events a second, for each value of the labels `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{selector}}}[$__rate_interval]))"


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        width = _COLUMNS // len(row)
        height = _NUMBER_HEIGHT if all(panel.kind == "stat" for panel in row) else _GRAPH_HEIGHT
        for column, panel in enumerate(row):
            place = {"x": column * width, "y": top, "w": width, "h": height}
            panels.append(_panel(len(panels) + 1, panel, place))
        top += height
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["chroma-voice"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": _VARIABLES},
        "links": [{"type": "dashboards", "tags": ["chroma-voice"], "title": "Chroma voice", "asDropdown": True}],
        "panels": panels,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {} if panel.kind == "stat" else {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


_VARIABLES: list[dict[str, Any]] = [
    {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}},
    {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": "label_values(chroma_voice_build_info, namespace)", "refId": "namespace"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    },
]
