"""The four images, as a container engine has built them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from tests.support.containers.docker import Docker
from tests.support.containers.engine import Engine
from tests.support.manifests import SETTINGS
from tests.support.paths import ROOT

MODEL_SERVICES = ("reasoner", "speech-gen", "codec")
MAX_BYTES = {"gateway": 500_000_000, **dict.fromkeys(MODEL_SERVICES, 1_000_000_000)}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WEIGHTS = ("*.safetensors", "*.gguf", "*.onnx", "*.bin", "*.pth")

every_image = pytest.mark.parametrize("service", list(SETTINGS))


def image(service: str) -> str:
    return f"localhost/chroma-voice/{service}:{VERSION}"


def inside(engine: Engine, service: str, script: str) -> str:
    """Run a shell script in a new container without network, with a root that cannot be written."""
    options = ("--rm", "--network", "none", "--read-only", "--cap-drop", "all", "--entrypoint", "sh")
    return engine.run("run", *options, image(service), "-c", script).stdout


@every_image
def test_an_image_names_its_version_and_runs_as_a_user_without_rights(built: Engine, service: str) -> None:
    config = built.inspect("image", image(service))["Config"]
    assert config["User"] == "10001:10001"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"chroma-voice {service}"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.revision"] == "0" * 40
    assert labels["org.opencontainers.image.base.name"]
    assert inside(built, service, "id -u; id -g").split() == ["10001", "10001"]


@every_image
def test_an_image_is_as_small_as_promised_and_holds_no_model(built: Engine, service: str) -> None:
    size_bytes = built.inspect("image", image(service))["Size"]
    print(f"{service}: {size_bytes / 1e6:.0f} MB")
    assert size_bytes < MAX_BYTES[service]
    names = " -o ".join(f"-name '{pattern}'" for pattern in WEIGHTS)
    found = inside(
        built, service, f"find / -xdev -type f -size +1000k \\( {names} \\) -not -path '/proc/*' 2>/dev/null || true"
    )
    assert not found.split()
    assert inside(built, service, "ls -A /models /compile-cache").split() == ["/compile-cache:", "/models:"]


@every_image
def test_an_image_has_its_own_packages_and_no_installer(built: Engine, service: str) -> None:
    script = 'python -c "import importlib.metadata as m; print(*sorted({d.name.lower() for d in m.distributions()}))"'
    names = inside(built, service, script).split()
    assert "chroma-voice" in names
    assert "pip" not in names
    assert ("torch" in names) == (service in MODEL_SERVICES)
    assert ("redis" in names) == (service == "gateway")
    assert inside(built, service, "chroma-voice --help").strip()


def assert_shared(layers: dict[str, list[str]]) -> None:
    """The model services have the same layers, and the gateway stands on the same base."""
    assert layers["reasoner"] == layers["speech-gen"] == layers["codec"]
    assert layers["gateway"][0] == layers["codec"][0]


def test_the_model_services_share_every_layer(built: Engine) -> None:
    assert_shared({service: built.inspect("image", image(service))["RootFS"]["Layers"] for service in SETTINGS})


@every_image
def test_a_process_without_settings_names_the_missing_one(built: Engine, service: str) -> None:
    done = built.run("run", "--rm", "--network", "none", "--read-only", image(service), check=False)
    assert done.returncode == 2
    assert "bad setting CHROMA_" in done.stderr


def facts(config: dict[str, Any]) -> dict[str, Any]:
    """What both builders write into an image's configuration."""
    same = ("User", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts")
    labels = {name: value for name, value in config["Labels"].items() if name.startswith("org.opencontainers.")}
    return {**{name: config[name] for name in same}, "Env": sorted(config["Env"]), "Labels": labels}


def test_buildkit_builds_the_same_images(built: Engine, built_by_buildkit: Docker) -> None:
    names = {service: image(service).removeprefix("localhost/") for service in SETTINGS}
    images = {service: built_by_buildkit.image(name) for service, name in names.items()}
    assert_shared({service: found["RootFS"]["Layers"] for service, found in images.items()})
    for service, found in images.items():
        assert facts(found["Config"]) == facts(built.inspect("image", image(service))["Config"])
        assert found["Config"]["Healthcheck"]["Test"][-1] == "services.common.rpc.check_health"
        assert found["Size"] < MAX_BYTES[service]
