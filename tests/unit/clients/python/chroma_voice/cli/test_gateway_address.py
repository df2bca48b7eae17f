from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from chroma_voice.cli import app
from chroma_voice.cli.gateway_address import GatewayAddress, check_address, find_gateway
from chroma_voice.errors import FailedPrecondition, InvalidArgument, Unavailable
from chroma_voice.local.certificate import certificate
from chroma_voice.local.state import StateFolder
from tests.support.endpoints import ENDPOINTS
from tests.support.fake_gateway import FakeGateway
from tests.support.gateway_commands import in_background, run


@pytest.mark.parametrize("random_weights", [False, True])
def test_the_gateway_of_the_launcher_in_the_state_folder_is_the_default(tmp_path: Path, random_weights: bool) -> None:
    folder = StateFolder(tmp_path)
    with folder.own():
        folder.write_endpoints(replace(ENDPOINTS, random_weights=random_weights))
        assert find_gateway("", tmp_path) == GatewayAddress("127.0.0.1:1", random_weights)


def test_a_gateway_that_is_named_is_taken_without_a_launcher(tmp_path: Path) -> None:
    assert find_gateway("elsewhere:50051", tmp_path) == GatewayAddress("elsewhere:50051", random_weights=False)


def test_without_a_name_and_without_a_launcher_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="chroma-voice up"):
        find_gateway("", tmp_path)


TALK = ("talk", "--text", "Hello?", "--voice", "reader", "--out")


def keys_sent(gateway: FakeGateway) -> list[str | None]:
    return [metadata.get("authorization") for metadata in gateway.metadata]


def test_a_command_sends_the_key_of_a_file_or_of_the_variable_or_none(gateway: FakeGateway, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("cv_file\n")
    for options, variables in (
        (("--api-key-file", file), {}),
        ((), {"CHROMA_API_KEY_FILE": str(file), "CHROMA_API_KEY": "cv_variable"}),
        ((), {"CHROMA_API_KEY": "cv_variable"}),
        ((), {}),
    ):
        done = run(gateway, *TALK, tmp_path / "reply.wav", *options, **variables)
        assert done.exit_code == 0, done.output
    assert keys_sent(gateway) == ["Bearer cv_file", "Bearer cv_file", "Bearer cv_variable", None]


def test_a_command_sends_no_key_in_plain_text_to_another_machine() -> None:
    arguments = ["voice", "list", "--gateway", "192.0.2.1:50051"]
    done = CliRunner().invoke(app, arguments, env={"CHROMA_API_KEY": "cv_secret"})
    assert isinstance(done.exception, InvalidArgument)
    assert "give --tls" in str(done.exception)
    assert "cv_secret" not in done.output + str(done.exception)


def test_the_help_says_that_others_can_see_a_key_in_an_option() -> None:
    shown = " ".join(CliRunner().invoke(app, ["voice", "show", "--help"]).output.replace("│", " ").split())
    assert "--api-key" in shown
    assert "Other users of this machine can see it" in shown


@pytest.mark.parametrize("address", ["nonsense", "http://localhost:8080", "localhost:", ":1", "a:70000"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="expected an address"):
        check_address(address)


@pytest.mark.parametrize(
    "address", ["localhost:1", "[::1]:50051", "unix:/g.sock", "dns:///voice:1", "dns:voice:1", "ipv4:1.2.3.4:5"]
)
def test_addresses_of_grpc_pass(address: str) -> None:
    check_address(address)


def test_a_key_file_that_is_missing_or_holds_no_single_key_is_named(gateway: FakeGateway, tmp_path: Path) -> None:
    missing = run(gateway, "voice", "list", "--api-key-file", tmp_path / "none")
    assert isinstance(missing.exception, FailedPrecondition)
    file = tmp_path / "key"
    for content in ("", "cv_a cv_b"):
        file.write_text(content)
        wrong = run(gateway, "voice", "list", "--api-key-file", file)
        assert isinstance(wrong.exception, InvalidArgument)
        assert "cv_a" not in str(wrong.exception)


def test_a_command_calls_a_gateway_with_tls_whose_authority_it_is_given(gateway: FakeGateway, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    credentials = grpc.ssl_server_credentials([(made.key.read_bytes(), made.chain.read_bytes())])
    with in_background(gateway, credentials) as address:
        command = ["voice", "list", "--gateway", address]
        with_authority = CliRunner().invoke(app, [*command, "--tls-ca", str(made.chain)])
        assert with_authority.exit_code == 0, with_authority.output
        assert "reader" in with_authority.output
