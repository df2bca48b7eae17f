"""API keys: what a file may hold, what is found in it, and how another version of it comes into use."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.access import keys as keys_module
from gateway.access.caller import Scope
from gateway.access.keys import KeyChange, Keys
from gateway.access.limits import LimitName
from gateway.metrics import KEY_RELOADS
from gateway.tasks import cancel
from services.common.errors import BadSetting
from tests.support.api_keys import key_entry, write_keys

KEY = "sk-0123456789abcdefghijklmnop"


def in_hours(hours: float) -> str:
    """A moment as RFC 3339."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def counted(counter: Any, count: float) -> None:
    """Wait until a counter stands at `count`."""
    while counter._value.get() < count:  # noqa: ASYNC110  # a counter sets no event
        await asyncio.sleep(0.01)


@asynccontextmanager
async def watched(keys: Keys) -> AsyncIterator[asyncio.Queue[KeyChange]]:
    """Follow the file of keys; yields the changes."""
    changes: asyncio.Queue[KeyChange] = asyncio.Queue()
    keys.on_change.append(changes.put_nowait)
    watching = asyncio.create_task(keys.watch())
    try:
        yield changes
    finally:
        await cancel(watching)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read often."""
    monkeypatch.setattr(keys_module, "_POLL_S", 0.01)


def test_a_key_of_the_file_has_an_id_a_tenant_scopes_and_an_end(tmp_path: Path) -> None:
    known = key_entry(KEY, id="ci", scopes=["talk", "admin"], expires="2999-01-01T00:00:00Z")
    keys = Keys({}, write_keys(tmp_path / "keys.json", key_entry("another"), known))
    found = keys.find(KEY)
    assert found is not None
    assert (found.key_id, found.tenant, found.scopes) == ("ci", "acme", {Scope.TALK, Scope.ADMIN})
    assert found.expires == datetime(2999, 1, 1, tzinfo=UTC)
    assert not found.is_expired
    assert keys.find(KEY + "x") is None
    assert keys.find(known["sha256"]) is None


def test_a_key_may_have_limits_of_its_own(tmp_path: Path) -> None:
    limits = {"conversations": 5, "uploads_per_day": None}
    limited, plain = key_entry(KEY, id="ci", limits=limits), key_entry("another", id="plain")
    keys = Keys({}, write_keys(tmp_path / "keys.json", limited, plain))
    assert keys.limits_of("acme", "ci") == {LimitName.CONVERSATIONS: 5, LimitName.UPLOADS_PER_DAY: None}
    assert keys.limits_of("acme", "plain") == keys.limits_of("acme", "unknown") == {}
    assert keys.limits_of("other", "ci") == {}, "a token of another tenant may have the same name in `sub`"


def test_an_expired_key_is_found_but_allows_nothing(tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.json", key_entry(KEY, id="old", expires=in_hours(-1)), key_entry("b", id="new"))
    keys = Keys({}, file)
    found = keys.find(KEY)
    assert found is not None
    assert found.is_expired
    assert not keys.allows("old", "acme", Scope.TALK)
    assert keys.allows("new", "acme", Scope.TALK)
    assert not keys.allows("new", "acme", Scope.VOICES)
    assert not keys.allows("new", "other", Scope.TALK)


def test_keys_of_the_environment_have_all_scopes_but_admin_and_ids_by_tenant() -> None:
    keys = Keys({"a-key-of-twenty-characters": "acme", "another-of-twenty-characters": "acme"}, None)
    first, second = keys.find("a-key-of-twenty-characters"), keys.find("another-of-twenty-characters")
    assert first is not None
    assert second is not None
    assert (first.key_id, second.key_id) == ("env-acme", "env-acme-2")
    assert first.scopes == {Scope.TALK, Scope.VOICES}


def test_short_keys_of_the_environment_are_warned_of_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    Keys({"tiny-key": "acme"}, None)
    assert "1 keys of CHROMA_API_KEYS have fewer than 20 characters" in caplog.text
    assert "tiny-key" not in caplog.text


def test_keys_are_configured_by_the_environment_or_by_a_file_even_an_empty_one(tmp_path: Path) -> None:
    assert not Keys({}, None).are_configured
    assert Keys({"k": "acme"}, None).are_configured
    assert Keys({}, write_keys(tmp_path / "keys.json")).are_configured


@pytest.mark.parametrize(
    "text",
    [
        "sk-secret",
        '{"sk-secret": "acme"}',
        '{"keys": {"sk-secret": "acme"}}',
        '{"keys": ["sk-secret"]}',
        json.dumps({"keys": [key_entry(KEY, sha256="sk-secret")]}),
        json.dumps({"keys": [key_entry(KEY, id="sk-secret/../")]}),
        json.dumps({"keys": [key_entry(KEY, id="")]}),
        json.dumps({"keys": [key_entry(KEY, id="anonymous")]}),
        json.dumps({"keys": [key_entry(KEY, tenant="")]}),
        json.dumps({"keys": [key_entry(KEY, tenant="sk-secret:x")]}),
        json.dumps({"keys": [key_entry(KEY, scopes=[])]}),
        json.dumps({"keys": [key_entry(KEY, scopes=["sk-secret"])]}),
        json.dumps({"keys": [key_entry(KEY, scopes="talk")]}),
        json.dumps({"keys": [key_entry(KEY, expires="sk-secret")]}),
        json.dumps({"keys": [key_entry(KEY, limits={"sk-secret": 1})]}),
        json.dumps({"keys": [key_entry(KEY, limits={"voices": -1})]}),
        json.dumps({"keys": [key_entry(KEY, limits={"voices": "sk-secret"})]}),
        json.dumps({"keys": [key_entry(KEY, expires="2030-01-01T00:00:00")]}),
        json.dumps({"keys": [key_entry(KEY, **{"sk-secret": 1})]}),
        json.dumps({"keys": [key_entry(KEY), key_entry(KEY, id="same-hash")]}),
        json.dumps({"keys": [key_entry(KEY), key_entry("b", id=KEY[-6:])]}),
        "[" * 100_000,
    ],
)
def test_a_bad_file_stops_the_start_and_no_part_of_it_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sk-secret.json"
    file.write_text(text)
    with pytest.raises(BadSetting) as refused:
        Keys({}, file)
    assert refused.value.message.startswith("CHROMA_API_KEYS_FILE: ")
    assert "sk-secret" not in refused.value.message


@pytest.mark.parametrize("field", ["id", "sha256", "tenant", "scopes"])
def test_a_bad_file_tells_which_field_of_which_key_is_missing(tmp_path: Path, field: str) -> None:
    broken = key_entry(KEY)
    del broken[field]
    with pytest.raises(BadSetting, match=rf"keys\.1\.{field}: Field required"):
        Keys({}, write_keys(tmp_path / "keys.json", key_entry("a"), broken))


def test_a_missing_file_stops_the_start_without_its_path_because_a_key_may_stand_there() -> None:
    with pytest.raises(BadSetting) as refused:
        Keys({}, Path('{"sk-secret": "acme"}'))
    assert refused.value.message == "CHROMA_API_KEYS_FILE: the file cannot be read: No such file or directory"


@pytest.mark.usefixtures("quick")
async def test_a_changed_file_comes_into_use_and_tells_what_it_changed(tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.json", key_entry("old", id="old"), key_entry("stays", id="stays"))
    keys = Keys({}, file)
    async with asyncio.timeout(30), watched(keys) as changes:
        write_keys(file, key_entry("stays", id="stays", scopes=["voices"]), key_entry(KEY, id="new"))
        assert await changes.get() == KeyChange(added=("new",), removed=("old",), changed=("stays",))
    assert keys.find("old") is None
    assert keys.find(KEY) is not None


@pytest.mark.usefixtures("quick")
async def test_a_symbolic_link_that_points_elsewhere_is_followed_as_kubernetes_moves_it(tmp_path: Path) -> None:
    for version, key in (("v1", "first-key"), ("v2", "other-key")):
        (tmp_path / version).mkdir()
        write_keys(tmp_path / version / "keys.json", key_entry(key, id="same-size"))
    (tmp_path / "data").symlink_to("v1")
    keys = Keys({}, tmp_path / "data" / "keys.json")
    async with asyncio.timeout(30), watched(keys) as changes:
        (tmp_path / "new").symlink_to("v2")
        (tmp_path / "new").rename(tmp_path / "data")
        assert (await changes.get()).changed == ("same-size",)
    assert keys.find("first-key") is None
    assert keys.find("other-key") is not None


@pytest.mark.usefixtures("quick")
async def test_a_broken_file_leaves_the_old_keys_and_is_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    file = write_keys(tmp_path / "keys.json", key_entry(KEY, id="old"))
    keys = Keys({}, file)
    refused = KEY_RELOADS.labels("refused")
    before = refused._value.get()
    async with asyncio.timeout(30), watched(keys) as changes:
        file.write_text("not JSON")
        await counted(refused, before + 1)
        assert keys.find(KEY) is not None
        file.unlink()
        await counted(refused, before + 2)
        assert keys.find(KEY) is not None
        write_keys(file, key_entry(KEY, id="new"))
        assert await changes.get() == KeyChange(added=("new",), removed=("old",), changed=())
    assert refused._value.get() == before + 2
    assert [record.getMessage() for record in caplog.records] == [
        "CHROMA_API_KEYS_FILE: the file: expected JSON; the keys that were read before stay in use",
        "CHROMA_API_KEYS_FILE: the file cannot be read: No such file or directory; the keys that were read before stay "
        "in use",
    ]


@pytest.mark.usefixtures("quick")
async def test_two_keys_of_one_tenant_serve_while_clients_move_to_the_new_one(tmp_path: Path) -> None:
    file = write_keys(tmp_path / "keys.json", key_entry("old", id="2026-11"), key_entry("new", id="2026-12"))
    keys = Keys({}, file)
    assert [known.tenant for key in ("old", "new") if (known := keys.find(key))] == ["acme", "acme"]
