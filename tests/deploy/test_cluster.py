"""The stand-in for a cluster keeps, patches and watches objects as a cluster does."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.cluster.objects import REVISION, Objects, Refused, Resource, resources_of
from tests.support.cluster.patches import apply_patch
from tests.support.cluster.protobuf import read_protobuf

NAMESPACE, DEPLOYMENT = Resource("v1", "Namespace", False), Resource("apps/v1", "Deployment", True)
REPLICA_SET, POD = Resource("apps/v1", "ReplicaSet", True), Resource("v1", "Pod", True)
MERGE, STRATEGIC, JSON = (f"application/{kind}-patch+json" for kind in ("merge", "strategic-merge", "json"))


def deployment(image: str, name: str = "gateway") -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name, "image": image}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "here"},
        "spec": spec,
    }


@pytest.fixture
def objects() -> Objects:
    objects = Objects(resources_of([deployment("a")]))
    objects.create(NAMESPACE, "", {"metadata": {"name": "here"}})
    return objects


@pytest.mark.parametrize(
    ("kind", "patch", "patched"),
    [
        (MERGE, {"a": None, "list": [{"name": "x"}]}, {"list": [{"name": "x"}], "b": {"c": 1}}),
        (MERGE, {"b": {"d": 2}}, {"a": 1, "list": [{"name": "x", "v": 1}, {"name": "y"}], "b": {"c": 1, "d": 2}}),
        (STRATEGIC, {"a": 2}, {"a": 2, "list": [{"name": "x", "v": 1}, {"name": "y"}], "b": {"c": 1}}),
        (
            STRATEGIC,
            {"list": [{"name": "x", "v": 2}, {"name": "z"}], "$setElementOrder/list": []},
            {"a": 1, "list": [{"name": "x", "v": 2}, {"name": "y"}, {"name": "z"}], "b": {"c": 1}},
        ),
        (
            STRATEGIC,
            {"list": [{"name": "x", "$patch": "delete"}], "b": {"$patch": "replace", "e": 1}},
            {"a": 1, "list": [{"name": "y"}], "b": {"e": 1}},
        ),
        (
            JSON,
            [{"op": "replace", "path": "/b/c", "value": 3}, {"op": "remove", "path": "/list"}],
            {"a": 1, "b": {"c": 3}},
        ),
    ],
)
def test_the_three_kinds_of_patches(kind: str, patch: Any, patched: Any) -> None:
    target = {"a": 1, "list": [{"name": "x", "v": 1}, {"name": "y"}], "b": {"c": 1}}
    assert apply_patch(kind, target, patch) == patched
    assert target == {"a": 1, "list": [{"name": "x", "v": 1}, {"name": "y"}], "b": {"c": 1}}


def test_an_object_needs_its_namespace_and_a_free_name(objects: Objects) -> None:
    with pytest.raises(Refused, match='namespaces "there" not found'):
        objects.create(POD, "there", {"metadata": {"name": "p"}, "spec": {}})
    objects.create(POD, "here", {"metadata": {"name": "p"}, "spec": {}})
    with pytest.raises(Refused, match="already exists"):
        objects.create(POD, "here", {"metadata": {"name": "p"}, "spec": {}})
    objects.delete(POD, "here", "p")
    with pytest.raises(Refused, match='pods "p" not found'):
        objects.get(POD, "here", "p")


def test_a_dry_run_changes_nothing(objects: Objects) -> None:
    version = objects.version
    assert objects.create(DEPLOYMENT, "here", deployment("a"), dry=True)["metadata"]["uid"]
    assert objects.version == version
    assert objects.list(DEPLOYMENT) == []


def test_each_template_of_a_deployment_gets_a_revision_and_one_pod(objects: Objects) -> None:
    for image, revision in (("a", "1"), ("b", "2"), ("b", "2"), ("a", "3")):
        try:
            old = objects.get(DEPLOYMENT, "here", "gateway")
            new = objects.replace(DEPLOYMENT, old, deployment(image))
        except Refused:
            new = objects.create(DEPLOYMENT, "here", deployment(image))
        assert new["metadata"]["annotations"][REVISION] == revision
        assert new["status"]["observedGeneration"] == new["metadata"]["generation"]
        (pod,) = objects.list(POD, "here", labels="app=gateway")
        assert pod["spec"]["containers"][0]["image"] == image
    assert len(objects.list(REPLICA_SET)) == 2


def test_lists_choose_by_label_and_name(objects: Objects) -> None:
    for name in ("gateway", "codec"):
        objects.create(DEPLOYMENT, "here", deployment("a", name))
    assert len(objects.list(POD, "here")) == 2
    assert [it["metadata"]["labels"]["app"] for it in objects.list(POD, labels="app=codec")] == ["codec"]
    assert [it["metadata"]["name"] for it in objects.list(DEPLOYMENT, fields="metadata.name=codec")] == ["codec"]
    assert objects.list(POD, "elsewhere") == []


def test_a_watch_gives_what_changes_until_the_cluster_ends(objects: Objects) -> None:
    seen: list[str] = []
    told = threading.Event()

    def look() -> None:
        for change, _ in objects.watch(POD, "here", "", "", since, 60):
            seen.append(change)
            told.set()

    since = objects.version
    thread = threading.Thread(target=look)
    thread.start()
    objects.create(POD, "here", {"metadata": {"name": "p"}, "spec": {}})
    assert told.wait(60)
    objects.close()
    thread.join(60)
    assert seen == ["ADDED"]


def test_the_plural_of_a_kind() -> None:
    kinds = {"Pod": "pods", "NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "Gateway": "gateways"}
    assert {kind: Resource("v1", kind, True).plural for kind in kinds} == kinds


def test_what_is_not_an_object_in_protobuf_is_refused() -> None:
    with pytest.raises(ValueError, match="in protobuf"):
        read_protobuf(b"{}")
    with pytest.raises(ValueError, match="no Pod is read"):
        read_protobuf(b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod")
