import json

import pytest

from chroma_voice.cli.trace import choose, read_spans, waterfall
from chroma_voice.errors import NotFound


def line(
    name: str,
    span_id: str,
    parent_id: str,
    start_s: float,
    seconds: float,
    *,
    turn: str = "turn-a",
    text: bool = False,
    **more: object,
) -> str:
    record = {
        "span": name, "turn": turn, "trace_id": "t", "span_id": span_id, "parent_id": parent_id, "start_s": start_s,
        "seconds": seconds, "status": "OK", "marks": {}, **more,
    }  # fmt: skip
    return (
        f"2026-11-22 INFO services.common.tracing turn={turn} took {json.dumps(record)}\n"
        if text
        else json.dumps(record)
    )


LINES = [
    "INFO listening on 127.0.0.1:1",
    line("CodecService/Decode", "4", "3", 101.5, 0.4, text=True, marks={"first_answer": 0.1}),
    line("codec.Decode", "3", "1", 101.4, 0.6),
    line("turn", "1", "0", 100.0, 2.0, marks={"committed": 1.0, "first_sound": 1.6}, reply="generated", level="INFO"),
    line("turn", "9", "", 90.0, 1.0, turn="turn-before"),
    '{"span": "broken"}',
]


def test_spans_are_read_from_text_and_json_lines_and_others_are_skipped() -> None:
    assert [span.name for span in read_spans(LINES)] == ["CodecService/Decode", "codec.Decode", "turn", "turn"]


def test_the_last_turn_is_shown_by_default_and_any_by_the_beginning_of_its_id() -> None:
    spans = list(read_spans(LINES))
    assert {span.turn for span in choose(spans, "")} == {"turn-a"}
    assert {span.turn for span in choose(spans, "turn-b")} == {"turn-before"}
    with pytest.raises(NotFound, match="turn-x"):
        choose(spans, "turn-x")


def test_the_waterfall_is_a_tree_with_times_since_the_commit() -> None:
    head, _, *rows = waterfall(choose(list(read_spans(LINES)), ""))
    assert head.startswith("turn-a OK")
    assert [row.split()[0] for row in rows if "█" in row] == ["turn", "codec.Decode", "CodecService/Decode"]
    assert rows[0].endswith("-1.00 s  +2.00 s")
    assert "first_sound 600 ms" in rows[1]
    assert "reply=generated" in rows[1]
    assert "level" not in rows[1]
    assert rows[3].startswith("    CodecService/Decode")
    assert "500 ms +400 ms" in rows[3]


def test_a_span_whose_parents_log_is_missing_is_still_shown() -> None:
    rows = waterfall(choose(list(read_spans([LINES[1], LINES[3]])), ""))
    assert any(row.startswith("CodecService/Decode") for row in rows)
