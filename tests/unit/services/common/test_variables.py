import pytest

from services.common.variables import complaints, given_variable, own_names_first


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("CHROMA_SLOT", "CHROMA_SLOTS"),
        ("CHROMA_TURN_LIMIT", "CHROMA_TURN_LIMIT_S"),
        ("CHROMA_CODEC_SLOT", "CHROMA_CODEC_SLOTS"),
        ("CHROMA_DYTPE", "CHROMA_DTYPE"),
        ("chroma_slot", "CHROMA_SLOTS"),
    ],
)
def test_an_unknown_variable_is_named_beside_the_nearest_known_one(misspelt: str, meant: str) -> None:
    (line,) = complaints({misspelt: "1", "PATH": "/bin"}, "codec")
    assert line.startswith(f"{misspelt} is not a setting of the codec; did you mean {meant}?")


def test_an_empty_unknown_variable_is_a_mistake_too() -> None:
    assert complaints({"CHROMA_SLOT": ""}, "codec")


def test_every_unknown_variable_is_named() -> None:
    assert len(complaints({"CHROMA_SLOT": "1", "CHROMA_THREAD": "1"}, "codec")) == 2


def test_a_variable_of_another_program_is_no_mistake() -> None:
    others = {"CHROMA_TRANSCRIBE": "yes", "CHROMA_REASONER_SLOTS": "3", "CHROMA_STATE": "state", "CHROMA_PROTOS": "p"}
    assert complaints(others, "codec") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHROMA_VOICE_GATEWAY_SERVICE_HOST", "10.0.0.11"),
        ("CHROMA_VOICE_GATEWAY_SERVICE_PORT", "50051"),
        ("CHROMA_VOICE_GATEWAY_SERVICE_PORT_GRPC", "50051"),
        ("CHROMA_VOICE_GATEWAY_PORT", "tcp://10.0.0.11:50051"),
        ("CHROMA_VOICE_GATEWAY_PORT_50051_TCP", "tcp://10.0.0.11:50051"),
        ("CHROMA_VOICE_GATEWAY_PORT_50051_TCP_ADDR", "10.0.0.11"),
        ("CHROMA_VOICE_GATEWAY_PORT_50051_TCP_PORT", "50051"),
        ("CHROMA_VOICE_GATEWAY_PORT_50051_TCP_PROTO", "tcp"),
        ("CHROMA_SERVICE_HOST", "10.0.0.11"),
        ("CHROMA_PORT", "tcp://10.0.0.11:50051"),
        ("CHROMA_CODEC_SERVICE_PORT_METRICS", "9090"),
    ],
)
def test_what_kubernetes_sets_for_a_service_is_no_mistake(name: str, value: str) -> None:
    assert complaints({name: value}, "gateway") == []


def test_a_port_that_is_no_address_of_kubernetes_is_a_mistake() -> None:
    assert complaints({"CHROMA_HTTP_PORT": "8080"}, "gateway")


def test_the_variable_of_one_process_beats_the_shared_one() -> None:
    variables = {"chroma_slots": "16", "chroma_codec_slots": "4", "chroma_reasoner_slots": "2"}
    assert own_names_first(variables, "codec")["chroma_slots"] == "4"
    assert own_names_first(variables, "speech_gen")["chroma_slots"] == "16"


def test_a_bad_value_is_blamed_on_the_variable_that_it_came_from() -> None:
    assert given_variable({"CHROMA_CODEC_SLOTS": "x", "CHROMA_SLOTS": "1"}, "codec", "slots") == "CHROMA_CODEC_SLOTS"
    assert given_variable({"CHROMA_CODEC_SLOTS": "", "CHROMA_SLOTS": "x"}, "codec", "slots") == "CHROMA_SLOTS"
