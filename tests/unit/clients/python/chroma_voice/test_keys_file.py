from __future__ import annotations

import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chroma_voice.errors import AlreadyExists, InvalidArgument, NotFound
from chroma_voice.keys_file import KeysFile

UNTIL = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "new" / "keys.json")


def test_the_file_holds_the_hash_of_the_key_and_not_the_key(keys: KeysFile) -> None:
    key = keys.add("phone", "acme", ["voices", "talk"], UNTIL)
    assert key.startswith("cv_")
    text = keys.path.read_text()
    assert key.removeprefix("cv_") not in text
    assert json.loads(text) == {
        "keys": [
            {
                "id": "phone",
                "sha256": hashlib.sha256(key.encode()).hexdigest(),
                "tenant": "acme",
                "scopes": ["talk", "voices"],
                "expires": "2031-05-06T07:08:09Z",
            }
        ]
    }


def test_a_key_without_an_end_has_no_time(keys: KeysFile) -> None:
    keys.add("phone", "acme", ["talk"], None)
    assert json.loads(keys.path.read_text())["keys"][0]["expires"] is None
    assert keys.entries()[0].expires is None


def test_keys_have_256_random_bits(keys: KeysFile) -> None:
    made = {keys.add(f"k{number}", "acme", ["talk"], None) for number in range(8)}
    assert len(made) == 8
    assert {len(key) for key in made} == {len("cv_") + 43}


def test_only_the_owner_can_read_the_file_also_after_it_was_open_to_all(keys: KeysFile) -> None:
    keys.add("a", "acme", ["talk"], None)
    keys.path.chmod(0o644)
    keys.add("b", "acme", ["talk"], None)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert [path.name for path in keys.path.parent.iterdir()] == ["keys.json"]


def test_a_taken_id_is_refused_and_changes_nothing(keys: KeysFile) -> None:
    keys.add("phone", "acme", ["talk"], UNTIL)
    before = keys.path.read_bytes()
    with pytest.raises(AlreadyExists, match="phone"):
        keys.add("phone", "other", ["talk"], None)
    assert keys.path.read_bytes() == before


def test_keys_added_at_the_same_time_are_all_there(keys: KeysFile) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: keys.add(f"k{number}", "acme", ["talk"], None), range(24)))
    assert {entry.id for entry in keys.entries()} == {f"k{number}" for number in range(24)}


def test_a_removed_key_is_gone_and_the_others_stay(keys: KeysFile) -> None:
    for name in ("a", "b"):
        keys.add(name, "acme", ["talk"], UNTIL)
    keys.remove("a")
    assert [(entry.id, entry.expires) for entry in keys.entries()] == [("b", UNTIL)]
    with pytest.raises(NotFound, match="'a'"):
        keys.remove("a")


@pytest.mark.parametrize(
    ("key_id", "tenant", "scopes"),
    [
        ("", "acme", ["talk"]),
        ("a b", "acme", ["talk"]),
        ("a" * 65, "acme", ["talk"]),
        ("a", "", ["talk"]),
        ("a", "b:c", ["talk"]),
        ("a", "acme", []),
        ("a", "acme", ["talk", "everything"]),
    ],
)
def test_a_bad_id_tenant_or_scope_is_refused(keys: KeysFile, key_id: str, tenant: str, scopes: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        keys.add(key_id, tenant, scopes, None)
    assert not keys.path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": [{}]}',
        '{"keys": {"a": 1}}',
        '{"keys": [{"id": "a", "sha256": "x", "tenant": "t", "scopes": 1, "expires": "soon"}]}',
    ],
)
def test_another_file_is_refused_and_left_as_it_is(keys: KeysFile, text: str) -> None:
    keys.path.parent.mkdir()
    keys.path.write_text(text)
    with pytest.raises(InvalidArgument, match="not a file of keys"):
        keys.add("a", "acme", ["talk"], None)
    assert keys.path.read_text() == text


def test_a_link_to_the_file_stays_a_link(keys: KeysFile, tmp_path: Path) -> None:
    keys.add("a", "acme", ["talk"], None)
    link = tmp_path / "link.json"
    link.symlink_to(keys.path)
    KeysFile(link).add("b", "acme", ["talk"], None)
    assert link.is_symlink()
    assert len(keys.entries()) == 2
