from __future__ import annotations

from pathlib import Path

import pytest

from chroma_voice.cli.gateway_address import GatewayAddress, find_gateway
from chroma_voice.errors import Unavailable
from chroma_voice.local.state import Endpoints, StateFolder


def endpoints(*, random_weights: bool) -> Endpoints:
    return Endpoints(
        gateway="127.0.0.1:1",
        page="http://localhost:2/",
        reasoner="127.0.0.1:3",
        speech_gen="127.0.0.1:4",
        codec="127.0.0.1:5",
        redis_url="redis://127.0.0.1:6/0",
        metrics={},
        model="m",
        random_weights=random_weights,
        pids={},
    )


@pytest.mark.parametrize("random_weights", [False, True])
def test_the_gateway_of_the_launcher_in_the_state_folder_is_the_default(tmp_path: Path, random_weights: bool) -> None:
    folder = StateFolder(tmp_path)
    with folder.own():
        folder.write_endpoints(endpoints(random_weights=random_weights))
        assert find_gateway("", tmp_path) == GatewayAddress("127.0.0.1:1", random_weights)


def test_a_gateway_that_is_named_is_taken_without_a_launcher(tmp_path: Path) -> None:
    assert find_gateway("elsewhere:50051", tmp_path) == GatewayAddress("elsewhere:50051", random_weights=False)


def test_without_a_name_and_without_a_launcher_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="chroma-voice up"):
        find_gateway("", tmp_path)
