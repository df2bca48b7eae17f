"""How the generator of the Helm chart writes what depends on a value."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.helm import components
from deploy.helm.chart import Chart
from deploy.helm.components import without_hashes
from deploy.helm.tree import Map, apply, plain, replace, tree
from deploy.helm.values import settings_schema
from deploy.helm.yaml_text import block

A, B = (".Values.a",), (".Values.b",)


def written(base: Any, *changes: tuple[tuple[str, ...], Any]) -> str:
    """The template of `base` and what each condition makes of it."""
    node = tree(base)
    for condition, after in changes:
        node = apply(node, base, after, condition)
    return block(node)


def rendered(text: str, *true: str) -> Any:
    """What the template says when these values are true, with the `if`, `or` and `not` that the generator writes."""
    lines: list[str] = []
    shown = [True]
    for line in text.splitlines():
        if found := re.fullmatch(r"\s*\{\{- (if|else if) (not )?(.*\.Values\..*) \}\}", line):
            right = bool(set(re.findall(r"\.Values\.(\w+)", found[3])) & set(true)) != bool(found[2])
            if found[1] == "if":
                shown += [False, right]
            else:
                done = shown[-2] or shown[-1]
                shown[-2:] = [done, right and not done]
        elif line.strip() == "{{- else }}":
            shown[-2:] = [True, not (shown[-2] or shown[-1])]
        elif line.strip() == "{{- end }}":
            del shown[-2:]
        elif all(shown[2::2]):
            lines.append(line)
    return yaml.safe_load("\n".join(lines))


BASE = {"name": "x", "ports": [{"name": "grpc", "port": 1}, {"name": "http", "port": 2}], "args": ["one"], "tls": False}
MORE = {
    "a new key": {**BASE, "new": {"deep": [1, 2]}},
    "no key": {key: value for key, value in BASE.items() if key != "tls"},
    "another value": {**BASE, "tls": True},
    "an item behind": {**BASE, "ports": [*BASE["ports"], {"name": "health", "port": 3}]},
    "an item before": {**BASE, "ports": [{"name": "health", "port": 3}, *BASE["ports"]]},
    "one item less": {**BASE, "ports": BASE["ports"][1:]},
    "another item": {**BASE, "args": ["two"]},
    "a change in an item": {**BASE, "ports": [{"name": "grpc", "port": 9}, {"name": "http", "port": 2}]},
    "another kind of value": {**BASE, "args": {"a": "mapping"}},
}


@pytest.mark.parametrize("name", MORE)
def test_a_difference_is_there_when_its_value_is_true_and_only_then(name: str) -> None:
    text = written(BASE, (A, MORE[name]))
    assert rendered(text) == BASE
    assert rendered(text, "a") == MORE[name]


@pytest.mark.parametrize("first", MORE)
@pytest.mark.parametrize("second", MORE)
def test_two_differences_stand_beside_each_other(first: str, second: str) -> None:
    text = written(BASE, (A, MORE[first]), (B, MORE[second]))
    assert rendered(text) == BASE
    assert rendered(text, "a") == MORE[first]
    assert rendered(text, "b") == MORE[second]


def test_of_two_values_for_one_place_the_later_component_decides() -> None:
    text = written({"x": 0}, (A, {"x": 1}), (B, {"x": 2}))
    assert [rendered(text, *true)["x"] for true in ((), ("a",), ("b",), ("a", "b"))] == [0, 1, 2, 2]


def test_the_same_change_by_two_components_is_written_once() -> None:
    text = written({"x": 0}, (A, {"x": 0, "y": 1}), (B, {"x": 0, "y": 1}))
    assert text == "x: 0\n{{- if or .Values.a .Values.b }}\ny: 1\n{{- end }}\n"


def test_neighbours_under_one_condition_share_its_braces() -> None:
    text = written({"x": 0}, (A, {"x": 0, "y": 1, "z": 2}))
    assert text == "x: 0\n{{- if .Values.a }}\ny: 1\nz: 2\n{{- end }}\n"


@pytest.mark.parametrize(
    "text", ["{{ $labels.job }} is away", "a: b", "yes", "080", "", "- x", "# x", "a\nb\n", "'", '"\\']
)
def test_a_text_reads_back_as_it_was(text: str) -> None:
    written_text = block(tree({"key": text, "list": [text]}))
    assert yaml.safe_load(written_text.replace('{{ "{{" }}', "{{")) == {"key": text, "list": [text]}


def test_braces_of_a_text_are_no_actions_of_helm() -> None:
    assert block(tree({"summary": "{{ $value }}"})) == 'summary: "{{ "{{" }} $value }}"\n'


def test_a_branch_is_replaced_alone() -> None:
    node = apply(tree({"x": 0}), {"x": 0}, {"x": 1}, A)
    replace(node, "x", lambda _: tree(5), branch=".Values.a")
    assert [rendered(block(node))["x"], rendered(block(node), "a")["x"]] == [0, 5]
    assert plain(node) == {"x": 0}


def chart() -> Chart:
    base = {
        "Deployment/one": {"spec": {"replicas": 1, "image": "a:1"}},
        "Deployment/two": {"spec": {"replicas": 2}},
    }
    return Chart(base, [])


def test_a_value_with_two_defaults_is_an_error_that_names_it() -> None:
    made = chart()
    made.scalar("Deployment/one", "spec/replicas", "replicas")
    with pytest.raises(ValueError, match="replicas stands for 1 and for 2"):
        made.scalar("Deployment/two", "spec/replicas", "replicas")


def test_a_place_that_is_gone_is_an_error_that_names_it() -> None:
    with pytest.raises(KeyError, match=r"Deployment/two has no spec/image"):
        chart().scalar("Deployment/two", "spec/image", "image")


def test_a_text_that_is_gone_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"no text has \(voice\)"):
        chart().texts([("(voice)", "{{ .Values.host }}", "host")])


def test_texts_keep_what_stands_around_them() -> None:
    base = {"ConfigMap/x": {"data": {"hosts": "a.example,b,c.chroma-voice"}}}
    made = Chart(base, [])
    made.texts(
        [(r"^(a\.example)", "{{ .Values.host }}", "host"), (r"c\.(chroma-voice)", "{{ .Release.Namespace }}", "")]
    )
    node = made.objects["ConfigMap/x"]
    assert isinstance(node, Map)
    assert block(node) == 'data:\n  hosts: "{{ .Values.host }},b,c.{{ .Release.Namespace }}"\n'
    assert made.defaults == {"host": "a.example"}


def test_users_of_a_config_map_lose_its_hash_too() -> None:
    config = {"kind": "ConfigMap", "metadata": {"name": "codec-settings-6ct58987ht"}}
    user = {"kind": "Deployment", "metadata": {"name": "codec"}, "spec": {"name": "codec-settings-6ct58987ht"}}
    found = without_hashes([config, user])
    assert list(found) == ["ConfigMap/codec-settings", "Deployment/codec"]
    assert found["Deployment/codec"]["spec"] == {"name": "codec-settings"}


def test_a_component_without_a_line_of_its_own_has_a_switch_with_its_name() -> None:
    assert components.condition("brand-new-part") == ".Values.brandNewPart.enabled"
    assert components.condition("gateway-api") == ".Values.gatewayApi.enabled"


def test_the_purpose_of_a_component_is_the_first_sentence_of_its_comment() -> None:
    assert components.purpose("priority") == (
        "A class of priority for all pods: on a full cluster, pods of lower priority make room for them."
    )


def test_settings_that_are_secrets_are_no_values() -> None:
    names = settings_schema("gateway")["properties"]
    assert "CHROMA_DRAIN_S" in names
    assert not {"CHROMA_REDIS_URL", "CHROMA_API_KEYS", "CHROMA_STORE_KEYS", "CHROMA_PAGE_TOKEN"} & names.keys()


def test_what_a_component_changes_in_a_value_is_a_default_that_the_value_beats() -> None:
    base = {"Deployment/one": {"limits": {"disk": "1Gi", "memory": "2Gi"}}}
    more = {"Deployment/one": {"limits": {"disk": "6Gi", "memory": "2Gi", "gpu": "1"}}}
    made = Chart(base, [("oidc", base, more)])
    made.structure("Deployment/one", "limits", "limits")
    assert made.defaults == {"limits": {"disk": "1Gi", "memory": "2Gi"}}
    assert block(made.objects["Deployment/one"]) == (
        "limits:\n"
        '  {{- toYaml (omit .Values.limits "disk") | nindent 2 }}\n'
        '  {{- if and .Values.oidc.enabled (eq (get .Values.limits "disk" | toString) "1Gi") }}\n'
        "  disk: 6Gi\n"
        "  {{- else }}\n"
        '  {{- with (get .Values.limits "disk" | toString) }}\n'
        "  disk: {{ . | quote }}\n"
        "  {{- end }}\n"
        "  {{- end }}\n"
        "  {{- if .Values.oidc.enabled }}\n"
        '  gpu: "1"\n'
        "  {{- end }}\n"
    )
