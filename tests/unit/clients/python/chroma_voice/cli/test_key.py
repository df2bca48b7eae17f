from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chroma_voice.cli import app
from chroma_voice.keys_file import KeyEntry, KeysFile, fingerprint


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["key", *map(str, arguments)])


def new(file: Path, *options: str) -> Result:
    return run("new", "--id", "phone", "--tenant", "acme", "--file", file, *options)


def only_entry(file: Path) -> KeyEntry:
    [entry] = KeysFile(file).entries()
    return entry


def test_a_new_key_is_all_that_standard_output_gets(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    done = new(file, "--scopes", "talk, admin", "--expires", "90d")
    assert done.exit_code == 0
    key = done.stdout.removesuffix("\n")
    entry = only_entry(file)
    assert entry.sha256 == fingerprint(key)
    assert entry.scopes == ("talk", "admin")
    assert entry.expires is not None
    assert abs(entry.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=10)
    assert key not in done.stderr
    assert "expires on" in done.stderr


@pytest.mark.parametrize(("text", "length"), [("12h", timedelta(hours=12)), ("45m", timedelta(minutes=45))])
def test_the_length_of_a_key_can_be_hours_or_minutes(tmp_path: Path, text: str, length: timedelta) -> None:
    new(tmp_path / "keys.json", "--expires", text)
    expires = only_entry(tmp_path / "keys.json").expires
    assert expires is not None
    assert abs(expires - datetime.now(UTC) - length) < timedelta(minutes=10)


def test_a_key_can_be_valid_for_ever(tmp_path: Path) -> None:
    new(tmp_path / "keys.json", "--expires", "never")
    assert only_entry(tmp_path / "keys.json").expires is None


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1y", "999999d", "90d "])
def test_another_length_is_a_wrong_usage(tmp_path: Path, text: str) -> None:
    assert new(tmp_path / "keys.json", "--expires", text).exit_code == 2
    assert not (tmp_path / "keys.json").exists()


def test_keys_are_listed_with_what_they_allow_and_the_ones_that_are_over(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    KeysFile(file).add("old", "acme", ["talk"], datetime(2020, 1, 2, tzinfo=UTC))
    key = new(file, "--expires", "never").stdout.strip()
    lines = run("list", "--file", file).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["id", "tenant", "scopes", "expires"],
        ["old", "acme", "talk", "2020-01-02", "00:00", "(over)"],
        ["phone", "acme", "talk,", "voices", "never"],
    ]
    assert key not in "".join(lines)


def test_a_revoked_key_is_no_longer_listed(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    new(file)
    assert run("revoke", "phone", "--file", file).exit_code == 0
    assert "chroma-voice key new" in run("list", "--file", file).output
