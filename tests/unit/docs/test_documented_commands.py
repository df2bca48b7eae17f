"""The checks of documented commands find what is wrong with one."""

from __future__ import annotations

import pytest

from tests.support.documented_commands import check, check_names
from tests.support.snippets import commands_of


def _check(line: str) -> int:
    """Check the commands of a line. Returns how many there are."""
    commands = list(commands_of(line))
    for command in commands:
        check(command)
    return len(commands)


@pytest.mark.parametrize(
    "line",
    [
        "chroma-voice up --detach --http 127.0.0.1:8080",
        "chroma-voice key new --id me --tenant default --file keys.json",
        "make demo TORCH_INDEX=https://example.com VOICE=coral",
        "python -m train.speech.train --resume --minutes 30",
        "kubectl -n chroma-voice rollout status deployment/gateway --timeout=30m",
        'value=$(openssl rand -hex 24); echo "$value" > out.txt   # a comment',
        "cd clients/node && node talk.js ../../samples/question_make_taco.wav",
    ],
)
def test_a_right_command_passes(line: str) -> None:
    assert _check(line)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("chroma-voice start", "start"),
        ("chroma-voice up --sample-voice", "sample-voice"),
        ("chroma-voice talk samples/missing.wav --voice amber", "missing.wav"),
        ("make demos", "demos"),
        ("make demo VOCE=coral", "VOCE"),
        ("python -m train.speech.trane", "trane"),
        ("python -m train.speech.train --minute 30", "--minute"),
        ("kubectl kustomize deploy/k8s/overlays/locale", "locale"),
        ("kubectl -n chroma rollout restart deployment/gateway", "chroma"),
        ("kubectl rollout restart deployment/gatway", "gatway"),
        ("kubectl create secret generic key-file --from-file=keys.json", "key-file"),
        ("cd clients/node && node talk.js ../../samples/none.wav", "none.wav"),
        ("chroma_voice up", "chroma_voice"),
    ],
)
def test_a_wrong_command_fails(line: str, problem: str) -> None:
    with pytest.raises(Exception, match=problem):
        _check(line)


@pytest.mark.parametrize("words", ["chroma-voice key knew", "chroma-voice up --tsl", "make lints"])
def test_a_wrong_name_in_a_sentence_fails(words: str) -> None:
    check_names(["chroma-voice", "key", "new|list", "--file"])
    with pytest.raises(AssertionError, match=words.split()[-1]):
        check_names(words.split())
