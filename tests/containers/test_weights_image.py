"""The image of the weights, built by the commands of docs/operations.md."""

from __future__ import annotations

from tests.support.containers.engine import Engine
from tests.support.snippets import snippet_that_begins

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_image_holds_the_folder_of_weights_and_nothing_else(engine: Engine) -> None:
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
    engine.run("rmi", image)
