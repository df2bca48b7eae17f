"""An evaluation from the options to its files, with instruments that tests can know."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from chroma_voice.cli.evaluation import evaluate_run
from chroma_voice.cli.evaluation.evaluate_run import EvalOptions, spread, start
from chroma_voice.cli.gateway_address import GatewayOptions
from chroma_voice.errors import ChromaError, FailedPrecondition, Unavailable
from chroma_voice.eval.collect import Collector
from chroma_voice.eval.folder import read_folder
from tests.support.eval_results import INSTRUMENTS, write_folder
from tests.support.gateway_commands import in_background
from tests.support.speaking_gateway import SpeakingGateway


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine")


@pytest.fixture(autouse=True)
def drawn_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is not rendered, which takes a second."""
    monkeypatch.setattr(evaluate_run, "render", lambda results, folder: "<!doctype html>")


@contextmanager
def evaluating(gateway: SpeakingGateway, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Yields a function that evaluates the gateway with a folder, and with some options."""
    with in_background(gateway) as address:

        def run(folder: Path | None, *, limit: int = 0, codec: str = "") -> None:
            options = EvalOptions(folder, tmp_path / "out", 1, None, 1, limit, codec, None, 30.0)
            start(GatewayOptions(gateway=address), options, lambda cache, whisper: INSTRUMENTS)

        yield run


def written(tmp_path: Path) -> dict[str, object]:
    [folder] = (tmp_path / "out").iterdir()
    return json.loads((folder / "eval.json").read_text())


def test_an_evaluation_shows_its_tables_and_writes_its_files(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = SpeakingGateway()
    with evaluating(gateway, tmp_path) as run:
        run(folder)
    output = capsys.readouterr().out
    for part in (
        "asking: 4",
        "judging replies: 4",
        "all replies",
        "voice with itself",
        "4 replies to 4 pairs; 0 failed",
    ):
        assert part in output
    assert "not available: codec alone" in output
    told = written(tmp_path)
    assert (told["pairs"], told["broken"], len(told["replies"])) == ("mine", "", 4)  # type: ignore[arg-type]
    [results] = (tmp_path / "out").iterdir()
    assert {path.name for path in results.iterdir()} == {"audio", "eval.html", "eval.json", "replies.jsonl"}
    assert gateway.voices == {}


def test_a_deployment_that_goes_away_leaves_partial_results_and_an_error(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chroma_voice.eval.collect.PROBES", 1)
    for name in ("ann", "ben"):
        (folder / "voices" / f"{name}.txt").write_text("Said.")
    gateway = SpeakingGateway("ann", "ben", gone_after=2)
    with evaluating(gateway, tmp_path) as run, pytest.raises(Unavailable) as failure:
        run(folder)
    assert "the target went away after 2 replies" in failure.value.message
    assert "the results until then are in" in failure.value.message
    told = written(tmp_path)
    assert str(told["broken"]).startswith("the target went away")
    assert [one["status"] for one in told["replies"]].count("OK") == 2  # type: ignore[attr-defined]


def test_after_ctrl_c_what_came_is_measured(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collect = Collector.run

    async def interrupted(self: Collector) -> None:
        await collect(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Collector, "run", interrupted)
    with evaluating(SpeakingGateway(), tmp_path) as run, pytest.raises(typer.Exit) as ended:
        run(folder)
    assert ended.value.exit_code == 130
    assert "interrupted after 4 pairs: the results are partial" in capsys.readouterr().out
    assert written(tmp_path)["broken"] == "interrupted after 4 pairs"


def test_without_any_reply_the_first_error_is_told(tmp_path: Path, folder: Path) -> None:
    gateway = SpeakingGateway()
    gateway.failing = {"ann", "ben"}
    with evaluating(gateway, tmp_path) as run, pytest.raises(ChromaError) as failure:
        run(folder)
    assert failure.value.status == "INTERNAL"
    assert "no pair had a reply: a step failed" in failure.value.message


def test_a_voice_that_nobody_has_is_told_before_anything_is_asked(tmp_path: Path, folder: Path) -> None:
    (folder / "pairs.jsonl").write_text('{"voice": "zoe", "text": "What?"}\n')
    gateway = SpeakingGateway("ann")
    with evaluating(gateway, tmp_path) as run, pytest.raises(FailedPrecondition, match=r"no voice 'zoe'.*it has ann"):
        run(folder)
    assert gateway.requests == []


def test_a_codec_that_is_not_there_is_told_and_the_rest_is_measured(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with evaluating(SpeakingGateway(), tmp_path) as run:
        run(folder, codec="127.0.0.1:1")
    assert "not available: codec alone (the codec service refuses" in capsys.readouterr().out


def test_a_target_that_is_down_is_told(tmp_path: Path, folder: Path) -> None:
    options = EvalOptions(folder, tmp_path / "out", 1, None, 1, 0, "", None, 30.0)
    with pytest.raises(Unavailable, match=r"no gateway answers at 127\.0\.0\.1:1"):
        start(GatewayOptions(gateway="127.0.0.1:1"), options, lambda cache, whisper: INSTRUMENTS)
    assert not (tmp_path / "out").exists()


def test_a_limit_spreads_over_all_pairs_and_leaves_unused_voices_out(tmp_path: Path, folder: Path) -> None:
    pairs = read_folder(folder)
    assert [(pair.voice, pair.question.kind) for pair in spread(pairs, 2).pairs] == [
        ("ann", "spoken"),
        ("ben", "spoken"),
    ]
    assert list(spread(pairs, 1).voices) == ["ann"]
    assert spread(pairs, 0) is spread(pairs, 9) is pairs
