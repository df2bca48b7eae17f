"""The image of the weights, built by the commands of docs/operations.md."""

from __future__ import annotations

import hashlib
import json

from tests.support.containers.engine import Engine
from tests.support.containers.registry import registry
from tests.support.snippets import snippet_that_begins

COMMIT = "0123456789abcdef0123456789abcdef01234567"


_WITHOUT_TLS = """
[[registry]]
location = "registry.example.com"
insecure = true
"""


def test_the_image_holds_the_folder_of_weights_and_nothing_else_and_its_digest_is_shown(engine: Engine) -> None:
    folder = engine.folder / "weights-image"
    (folder / "weights" / "parts").mkdir(parents=True)
    for name in ("config.json", "parts/b.safetensors"):
        (folder / "weights" / name).write_text(name)
    block = snippet_that_begins("docs/operations.md", "printf 'FROM scratch")
    engine.command("bash", "-eu", "-c", block.code, directory=folder, environment={"commit": COMMIT})

    image = f"registry.example.com/chroma-voice/weights:{COMMIT}"
    engine.run("create", "--name", "weights", image, "none")
    engine.run("cp", "weights:/", folder / "copied")
    files = [it for it in (folder / "copied").rglob("*") if it.is_file() and it.stat().st_size]
    found = {str(it.relative_to(folder / "copied")): it.read_text() for it in files}
    assert found == {"chroma/config.json": "config.json", "chroma/parts/b.safetensors": "parts/b.safetensors"}
    engine.run("rm", "weights")

    push = snippet_that_begins("docs/operations.md", "podman push").code
    with registry() as kept:
        instead = folder / "registries.conf"
        instead.write_text(_WITHOUT_TLS)
        own = {"commit": COMMIT, "CONTAINERS_REGISTRIES_CONF": str(instead)}
        own["http_proxy"] = f"http://127.0.0.1:{kept.port}"  # it answers for registry.example.com
        shown = engine.command("bash", "-eu", "-c", push, directory=folder, environment=own, online=True).stdout
    manifest = kept.manifests[f"chroma-voice/weights:{COMMIT}"]
    assert shown.split()[-1] == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    layers = [layer["digest"] for layer in json.loads(manifest)["layers"]]
    assert layers
    assert set(layers) <= kept.blobs.keys()
    engine.run("rmi", image)
