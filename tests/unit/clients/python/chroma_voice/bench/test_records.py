from __future__ import annotations

import json

from tests.support import bench_results


def test_a_record_is_json() -> None:
    found = json.loads(json.dumps(bench_results.turns()[0].to_dict()))
    assert (found["gaps"], found["status"], found["first_sound_s"]) == ([[1.0, 0.2]], "OK", 0.15)
