"""promtool accepts the alert rules, and they fire when they should and at no other time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.prometheus_tools import program, rule_groups

CASES = Path(__file__).parent / "alerts_test.yaml"

pytestmark = pytest.mark.slow


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": rule_groups()}))
    return path


def test_prometheus_accepts_the_rules(rules: Path) -> None:
    checked = subprocess.run([program("promtool"), "check", "rules", rules], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_when_they_should_and_only_then(rules: Path) -> None:
    cases = rules.with_name("cases.yaml")
    cases.write_text(CASES.read_text())
    tested = subprocess.run([program("promtool"), "test", "rules", cases], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_tested() -> None:
    tested = {
        case["alertname"] for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]
    }
    alerts = {rule["alert"] for group in rule_groups() for rule in group["rules"] if "alert" in rule}
    steadily = {alert for alert in alerts if alert.endswith("Steadily")}
    assert alerts - tested <= steadily
