"""Results as JSON."""

import json

from tests.support.eval_results import results


def test_results_are_json_with_every_reply() -> None:
    told = json.loads(results(broken="interrupted after 3 pairs").to_json())
    assert (told["target"], told["pairs"], told["started"]) == ("here (gRPC)", "pairs", "1970-01-01T00:00:00+00:00")
    assert [one["status"] for one in told["replies"]] == ["OK", "OK", "OK", "INTERNAL"]
    assert told["summary"]["replies"] == 3
    assert told["references"][2] == {
        **{"kind": "itself", "voice": "ann", "beside": "", "similarity": 0.95, "wrong": None, "words": None}
    }
    assert told["broken"] == "interrupted after 3 pairs"
    assert results().started == "1970-01-01 00:00:00 UTC"
