"""The HTTP API of the cluster on loopback."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.cluster.objects import Object, Objects, Refused, Resource, resources_of
from tests.support.cluster.patches import apply_patch
from tests.support.cluster.protobuf import read_protobuf

VERSION = "v1.37.0"
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/\w))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[^/]+))?"
)
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class Cluster:
    """A running stand-in, with the file by which kubectl and helm find it."""

    objects: Objects
    kubeconfig: Path

    def add(self, manifests: Sequence[Object]) -> None:
        """Create objects, as an earlier installation did."""
        for it in manifests:
            resource = self.objects.resource(it["apiVersion"], it["kind"])
            self.objects.create(resource, it["metadata"].get("namespace", ""), it)

    def find(self, kind: str, name: str, namespace: str = "chroma-voice") -> Object:
        """An object, by its kind and name."""
        (resource,) = [it for it in self.objects.resources if it.kind == kind]
        return self.objects.get(resource, namespace if resource.namespaced else "", name)


@contextlib.contextmanager
def running(manifests: Sequence[Object], folder: Path, logs: str = "") -> Iterator[Cluster]:
    """A cluster that knows the kinds of these manifests. `folder` gets its kubeconfig, `logs` is of each pod."""
    objects = Objects(resources_of(manifests))

    class Handler(_Handler):
        cluster, text = objects, logs

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{server.server_port}")))
        kubeconfig.chmod(0o600)
        yield Cluster(objects, kubeconfig)
    finally:
        objects.close()
        server.shutdown()
        thread.join()
        server.server_close()


def _kubeconfig(url: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {}}],
        "current-context": "test",
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits for an acknowledgement: 40 ms
    cluster: Objects
    text: str

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            described = self._discover(url.path)
            if described is not None:
                return self._send(200, described)
            found = _PATH.fullmatch(url.path)
            if found is None:
                raise Refused(404, "NotFound", f"nothing at {url.path}")
            is_protobuf = "protobuf" in self.headers.get("Content-Type", "") and self.command in ("POST", "PUT")
            given = read_protobuf(body) if is_protobuf else json.loads(body or b"{}")
            self._serve(found.groupdict(default=""), query, given)
        except ValueError as error:
            self._send(415, _status(Refused(415, "UnsupportedMediaType", str(error))))
        except Refused as refused:
            self._send(refused.code, _status(refused))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def _discover(self, path: str) -> Object | None:
        """Version, kinds and the least of their OpenAPI description."""
        versions = sorted({it.group_version for it in self.cluster.resources})
        if path == "/version":
            return {"major": "1", "minor": VERSION.split(".")[1], "gitVersion": VERSION}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [_group(name) for name in versions if "/" in name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        for name in versions:
            root = f"/apis/{name}" if "/" in name else f"/api/{name}"
            kinds = [it for it in self.cluster.resources if it.group_version == name]
            if path == root:
                listed = [_listed(it) for it in kinds]
                return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}
            if path == f"/openapi/v3{root}":
                return {"openapi": "3.0.0", "info": {"title": "", "version": VERSION}, "paths": _described(root, kinds)}
        if path == "/openapi/v3":
            roots = [f"apis/{name}" if "/" in name else f"api/{name}" for name in versions]
            return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in roots}}
        return None

    def _serve(self, path: dict[str, str], query: dict[str, str], body: Object) -> None:
        objects, group = self.cluster, path["group"]
        resource = objects.resource(f"{group}/{path['version']}" if group else path["version"], path["plural"])
        namespace, name, dry = path["namespace"], path["name"], "dryRun" in query
        chosen = (query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if path["part"] == "log":
            objects.get(resource, namespace, name)
            return self._send_text(self.text)
        if query.get("watch") in ("1", "true"):
            return self._watch(resource, namespace, chosen, query)
        if self.command == "GET" and name:
            return self._send(200, objects.get(resource, namespace, name))
        if self.command == "GET":
            items = objects.list(resource, namespace, *chosen)
            metadata = {"resourceVersion": str(objects.version)}
            listed = {"apiVersion": resource.group_version, "kind": f"{resource.kind}List", "metadata": metadata}
            return self._send(200, listed | {"items": items})
        if self.command == "POST":
            return self._send(201, objects.create(resource, namespace, body, dry=dry))
        if self.command == "DELETE":
            return self._send(200, objects.delete(resource, namespace, name))
        old = objects.get(resource, namespace, name)
        new = body if self.command == "PUT" else apply_patch(self.headers["Content-Type"], old, body)
        return self._send(200, objects.replace(resource, old, new, dry=dry))

    def _watch(self, resource: Resource, namespace: str, chosen: tuple[str, str], query: dict[str, str]) -> None:
        """Send the changes as they come. Before them the present objects, to a client that asks so."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        since = int(query.get("resourceVersion") or self.cluster.version)
        with contextlib.suppress(ConnectionError):
            if query.get("sendInitialEvents") == "true":
                since = self.cluster.version
                for it in self.cluster.list(resource, namespace, *chosen):
                    self._send_chunk({"type": "ADDED", "object": it})
                self._send_chunk({"type": "BOOKMARK", "object": _bookmark(resource, since)})
            limit_s = float(query.get("timeoutSeconds", 60))
            for change, it in self.cluster.watch(resource, namespace, *chosen, since, limit_s):
                self._send_chunk({"type": change, "object": it})
            self.wfile.write(b"0\r\n\r\n")

    def _send_chunk(self, it: Object) -> None:
        data = json.dumps(it).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, code: int, it: Object) -> None:
        self._send_bytes(code, "application/json", json.dumps(it).encode())

    def _send_text(self, text: str) -> None:
        self._send_bytes(200, "text/plain", text.encode())

    def _send_bytes(self, code: int, kind: str, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _status(refused: Refused) -> Object:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return status | {"code": refused.code, "reason": refused.reason, "message": str(refused)}


def _group(group_version: str) -> Object:
    group, version = group_version.split("/")
    named = {"groupVersion": group_version, "version": version}
    return {"name": group, "versions": [named], "preferredVersion": named}


def _listed(resource: Resource) -> Object:
    named = {"name": resource.plural, "singularName": resource.kind.lower(), "kind": resource.kind}
    return named | {"namespaced": resource.namespaced, "verbs": _VERBS}


def _described(root: str, resources: Sequence[Resource]) -> Object:
    """Paths that say to kubectl that the server itself checks the fields of an object."""
    checks = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("fieldValidation", "dryRun")]
    paths: Object = {}
    for resource in resources:
        group, _, version = resource.group_version.rpartition("/")
        kind = {"group": group, "version": version, "kind": resource.kind}
        path = f"{root}/namespaces/{{namespace}}" if resource.namespaced else root
        patch = {"parameters": checks, "x-kubernetes-group-version-kind": kind, "x-kubernetes-action": "patch"}
        paths[f"{path}/{resource.plural}/{{name}}"] = {"patch": patch | {"responses": {}}}
    return paths


def _bookmark(resource: Resource, version: int) -> Object:
    metadata = {"resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}
    return {"apiVersion": resource.group_version, "kind": resource.kind, "metadata": metadata}
