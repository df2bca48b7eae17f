"""Writes the Helm chart from the kustomize base and its components.

`python -m deploy.helm.generate`, or `make generated`. Each component is compared with the base, and what it changes
stands under the value that switches it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploy.helm import values_files
from deploy.helm.chart import Chart
from deploy.helm.components import steps
from deploy.helm.places import fill, rolled_by
from deploy.helm.tree import Lines, Map, Node, plain
from deploy.helm.values import WORKLOADS
from deploy.helm.yaml_text import block, document

FOLDER = Path(__file__).parent / "chroma-voice"

HEADER = "{{- /* Made by `make generated` from deploy/k8s/%s, whose comments say why. Do not edit. */}}\n"

SHARED = {
    "Namespace": "namespace",
    "NetworkPolicy/default-deny": "namespace",
    "PersistentVolumeClaim/models": "weights",
    "ConfigMap/weights": "weights",
    "ConfigMap/scripts": "weights",
}
"""The files of objects of the base that belong to no workload, by kind or by kind and name."""

BY_HAND = {
    "templates/_helpers.tpl",
    "templates/checks.yaml",
    "templates/NOTES.txt",
    "templates/tests/turn.yaml",
    "files/hold_turn.py",
    "files/question.flac",
    "values-local.yaml",
    "values-production.yaml",
    "values-single-gpu.yaml",
}
"""The files of the chart that are not generated."""


def file_of(name: str, added_by: dict[str, str]) -> str:
    """The template that holds an object, without its ending."""
    if name in added_by:
        return added_by[name]
    kind, _, plain_name = name.partition("/")
    for workload in WORKLOADS:
        if plain_name in (workload, f"{workload}-defaults", f"{workload}-settings"):
            return workload
    return SHARED.get(name) or SHARED[kind]


def dashboards_from_files(chart: Chart) -> None:
    """Let Helm read dashboards, which have braces of their own, from files of the chart.

    `files/dashboards` is a link to the folder of the component.
    """

    def new(node: Node) -> Node:
        return Map({name: Lines(lambda _, name=name: _dashboard(name)) for name in plain(node)})

    chart.change("ConfigMap/dashboards", "data", new)


def _dashboard(name: str) -> list[str]:
    return [f"  {name}: |", f'    {{{{- .Files.Get "files/dashboards/{name}" | nindent 4 }}}}']


def templates() -> Iterator[tuple[str, str]]:
    """The names and texts of all generated files, from the chart's folder."""
    chart = Chart(*steps())
    dashboards_from_files(chart)
    fill(chart)
    defines = ["{{- /* The data of ConfigMaps. Made by `make generated`. Do not edit. */}}\n"]
    defines += [_define(chart, name) for name in rolled_by(chart)]
    files: dict[str, list[str]] = {}
    for name, node in chart.objects.items():
        files.setdefault(file_of(name, chart.added_by), []).append(document(node))
    yield "templates/_data.tpl", "\n".join(defines)
    for name, documents in sorted(files.items()):
        component = name in chart.added_by.values()
        source = f"components/{name}" if component else f"base/{name}.yaml"
        yield f"templates/{name}.yaml", HEADER % source + "".join(documents)
    yield from values_files.texts(chart.defaults)


def _define(chart: Chart, name: str) -> str:
    """Move the data of a ConfigMap into a named template, from which it and the hash of it are made."""
    template = f"chroma-voice.data.{name}"
    data: list[Node] = []

    def new(node: Node) -> Node:
        if isinstance(node, Map):
            data.append(node.entries["data"])
            if isinstance(data[0], Map):
                include = f'  {{{{- include "{template}" . | nindent 2 }}}}'
                node.entries["data"] = Lines(lambda _: ["data:", include])
        return node

    chart.change(f"ConfigMap/{name}", "", new)
    inside = block(data[0]) if isinstance(data[0], Map) else block(Map({"data": data[0]}))
    return f'{{{{- define "{template}" -}}}}\n{inside}{{{{- end }}}}\n'


def write() -> None:
    """Write all generated files, and remove those that are generated no more."""
    generated = dict(templates())
    for path in present() - generated.keys() - BY_HAND:
        (FOLDER / path).unlink()
    for name, text in generated.items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)


def present() -> set[str]:
    """The files of the chart that there are, from its folder."""
    return {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}


if __name__ == "__main__":
    write()
