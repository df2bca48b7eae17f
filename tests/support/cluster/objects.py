"""The objects of the cluster, their versions and their watchers."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]

_BUILT_IN = {
    ("v1", "Namespace", False),
    ("v1", "Event", True),
    ("v1", "Pod", True),
    ("v1", "Secret", True),
    ("v1", "ConfigMap", True),
    ("apps/v1", "ReplicaSet", True),
}
REVISION = "deployment.kubernetes.io/revision"
"""The annotation with the number of a Deployment's template."""
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


class Refused(Exception):
    """A request that the API answers with an error, such as 404 and NotFound."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


@dataclass(frozen=True)
class Resource:
    """A kind of object, and how it is named in paths."""

    group_version: str
    kind: str
    namespaced: bool

    @property
    def plural(self) -> str:
        """Such as `networkpolicies`."""
        name = self.kind.lower()
        if name.endswith("y") and name[-2] not in "aeiou":
            return f"{name[:-1]}ies"
        return f"{name}es" if name.endswith(("s", "x", "ch")) else f"{name}s"


def resources_of(manifests: Sequence[Object]) -> set[Resource]:
    """The kinds of these objects, and those that every cluster has. Kustomize gives a namespace to each object that can
    have one."""
    found = {(it["apiVersion"], it["kind"], "namespace" in it["metadata"]) for it in manifests}
    return {Resource(*it) for it in found | _BUILT_IN}


class Objects:
    """What the cluster holds. Safe for several threads."""

    def __init__(self, resources: set[Resource]) -> None:
        self.resources = resources
        self._stored: dict[tuple[Resource, str, str], Object] = {}
        self._changes: list[tuple[int, Resource, str, Object]] = []
        self._changed = threading.Condition(threading.RLock())
        self._version = 0
        self.closed = False

    def resource(self, group_version: str, name: str) -> Resource:
        """The resource with this plural name or kind."""
        for resource in self.resources:
            if resource.group_version == group_version and name in (resource.plural, resource.kind):
                return resource
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """A copy of an object."""
        with self._changed:
            try:
                return copy.deepcopy(self._stored[resource, namespace, name])
            except KeyError:
                raise Refused(404, "NotFound", f'{resource.plural} "{name}" not found') from None

    def list(self, resource: Resource, namespace: str = "", labels: str = "", fields: str = "") -> list[Object]:
        """Copies of the objects of a namespace, or of all. Labels are chosen by `name=value,...`, fields by
        `metadata.name=...`."""
        with self._changed:
            found = [
                it
                for (of, where, _), it in self._stored.items()
                if of == resource and namespace in ("", where) and matches(it, labels, fields)
            ]
            return copy.deepcopy(found)

    def create(self, resource: Resource, namespace: str, new: Object, *, dry: bool = False) -> Object:
        """Add an object. Its namespace must exist, and its name must be free."""
        with self._changed:
            name = new["metadata"]["name"]
            if (resource, namespace, name) in self._stored:
                raise Refused(409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
            if namespace:
                self.get(self.resource("v1", "Namespace"), "", namespace)
            metadata = {
                **new["metadata"],
                **({"namespace": namespace} if namespace else {}),
                "uid": str(uuid.uuid4()),
                "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "generation": 1,
            }
            return self._store("ADDED", resource, {**new, "metadata": metadata}, dry=dry)

    def replace(self, resource: Resource, old: Object, new: Object, *, dry: bool = False) -> Object:
        """Put a new state in the place of an old one."""
        with self._changed:
            kept = {"uid", "creationTimestamp", "namespace", "name"}
            metadata = new["metadata"] | {name: value for name, value in old["metadata"].items() if name in kept}
            changed = new.get("spec") != old.get("spec")
            metadata["generation"] = old["metadata"]["generation"] + changed
            return self._store("MODIFIED", resource, {**new, "metadata": metadata}, dry=dry)

    def delete(self, resource: Resource, namespace: str, name: str) -> Object:
        """Take an object away. Returns what it was."""
        with self._changed:
            gone = self.get(resource, namespace, name)
            del self._stored[resource, namespace, name]
            self._tell("DELETED", resource, gone)
            return gone

    def watch(
        self, resource: Resource, namespace: str, labels: str, fields: str, since: int, limit_s: float
    ) -> Iterator[tuple[str, Object]]:
        """The changes after a version: ADDED, MODIFIED or DELETED, and the object. Ends after `limit_s`."""
        end = time.monotonic() + limit_s
        with self._changed:
            seen = next((i for i, it in enumerate(self._changes) if it[0] > since), len(self._changes))
        while True:
            with self._changed:
                while len(self._changes) == seen and not self.closed:
                    if not self._changed.wait(end - time.monotonic()):
                        return
                if self.closed:
                    return
                new, seen = self._changes[seen:], len(self._changes)
            for _, of, change, it in new:
                where = it["metadata"].get("namespace", "")
                if of == resource and namespace in ("", where) and matches(it, labels, fields):
                    yield change, it

    def close(self) -> None:
        """End all watches."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    @property
    def version(self) -> int:
        """Rises with every change."""
        return self._version

    def _store(self, change: str, resource: Resource, new: Object, *, dry: bool) -> Object:
        new = copy.deepcopy(new) | {"apiVersion": resource.group_version, "kind": resource.kind}
        if not dry:
            self._run(new)
            self._stored[resource, new["metadata"].get("namespace", ""), new["metadata"]["name"]] = new
            self._tell(change, resource, new)
        return copy.deepcopy(new)

    def _tell(self, change: str, resource: Resource, it: Object) -> None:
        self._version += 1
        it["metadata"]["resourceVersion"] = str(self._version)
        self._changes.append((self._version, resource, change, copy.deepcopy(it)))
        self._changed.notify_all()

    def _run(self, it: Object) -> None:
        """What the controllers of a cluster do about an object, at once."""
        if it["kind"] == "Namespace":
            it["status"] = {"phase": "Active"}
        elif it["kind"] == "Secret":
            it["type"] = it.get("type") or "Opaque"
        elif it["kind"] == "Pod":
            ends = it["spec"].get("restartPolicy") == "Never"
            it["status"] = {"phase": "Succeeded" if ends else "Running"}
        elif it["kind"] in WORKLOADS:
            count = it["spec"].get("replicas", 1)
            numbers = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
            it["status"] = dict.fromkeys(numbers, count) | {"observedGeneration": it["metadata"]["generation"]}
            self._start_pod(it, self._roll_out(it) if it["kind"] == "Deployment" else "0")

    def _roll_out(self, deployment: Object) -> str:
        """Keep each template of a Deployment in a ReplicaSet, of which the newest has the highest revision. Returns the
        hash of the template."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        resource, namespace = self.resource("apps/v1", "ReplicaSet"), metadata["namespace"]
        digest = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:10]
        name = f"{metadata['name']}-{digest}"
        own = [it for it in self.list(resource, namespace) if _owner(it) == metadata["uid"]]
        revisions = {it["metadata"]["name"]: int(it["metadata"]["annotations"][REVISION]) for it in own}
        newest = max(revisions.values(), default=0)
        if newest == 0 or revisions.get(name) != newest:
            newest += 1
            if name in revisions:
                self.delete(resource, namespace, name)
            self.create(resource, namespace, _replica_set(deployment, digest, newest))
        metadata["annotations"] = {**metadata.get("annotations", {}), REVISION: str(newest)}
        return digest

    def _start_pod(self, workload: Object, suffix: str) -> None:
        """One pod in the place of that of the last template."""
        resource, namespace = self.resource("v1", "Pod"), workload["metadata"]["namespace"]
        for old in self.list(resource, namespace):
            if _owner(old) == workload["metadata"]["uid"]:
                self.delete(resource, namespace, old["metadata"]["name"])
        template = workload["spec"]["template"]
        metadata = {"name": f"{workload['metadata']['name']}-{suffix}", "ownerReferences": [_reference(workload)]}
        new = {"metadata": template.get("metadata", {}) | metadata, "spec": template["spec"]}
        self.create(resource, namespace, new)


def _reference(owner: Object) -> Object:
    named = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    return named | {"uid": owner["metadata"]["uid"], "controller": True}


def _owner(it: Object) -> str:
    return next((owner["uid"] for owner in it["metadata"].get("ownerReferences", [])), "")


def _replica_set(deployment: Object, digest: str, revision: int) -> Object:
    template = deployment["spec"]["template"]
    labels = {**template["metadata"]["labels"], "pod-template-hash": digest}
    return {
        "metadata": {
            "name": f"{deployment['metadata']['name']}-{digest}",
            "labels": labels,
            "annotations": {REVISION: str(revision)},
            "ownerReferences": [_reference(deployment)],
        },
        "spec": {
            "replicas": deployment["spec"].get("replicas", 1),
            "selector": deployment["spec"]["selector"],
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    }


def matches(it: Object, labels: str, fields: str) -> bool:
    """Whether an object has all labels `name=value,...` and, of the fields, the name."""
    found = it["metadata"].get("labels", {})
    for pair in filter(None, labels.split(",")):
        name, _, value = pair.partition("=")
        if found.get(name) != value.removeprefix("="):
            return False
    chosen = dict(pair.split("=", 1) for pair in fields.split(",") if "=" in pair)
    return chosen.get("metadata.name", it["metadata"]["name"]) == it["metadata"]["name"]
