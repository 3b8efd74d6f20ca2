"""Alarms: each on something that is measured, each tells somebody, each is explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.template.test_template import FUNCTIONS, RESOURCES, folder_of

ROOT = Path(__file__).parent.parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ALARMS = {n: r["Properties"] for n, r in RESOURCES.items() if r["Type"] == "AWS::CloudWatch::Alarm"}
OURS = sorted(name for name, alarm in ALARMS.items() if alarm["Namespace"] == "LLMGateway")


def dimensions(alarm: dict[str, Any]) -> dict[str, Any]:
    return {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_an_alarm_tells_the_topic_when_it_begins_and_when_it_is_over(name: str) -> None:
    assert ALARMS[name]["AlarmActions"] == ALARMS[name]["OKActions"] == [{"Ref": "AlarmTopic"}]
    assert ALARMS[name]["TreatMissingData"] == "notBreaching"


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_an_alarm_is_explained_with_what_to_do(name: str) -> None:
    rows = [line for line in OPERATIONS.splitlines() if line.startswith("|") and f"`{name}`" in line]
    assert any(line.count("|") == 4 and len(line.rsplit("|", 2)[1].strip()) > 10 for line in rows)


@pytest.mark.parametrize("name", OURS)
def test_a_metric_of_ours_is_watched_with_just_the_dimensions_it_is_written_with(name: str) -> None:
    """CloudWatch adds nothing up over dimensions: with one more or less an alarm sees nothing for ever."""
    alarm = ALARMS[name]
    assert dimensions(alarm).keys() == {"environment", "service"}
    [row] = re.findall(rf"^\|[^|]*`{alarm['MetricName']}`[^|]*\|(?:[^|]*\|){{4}}$", OPERATIONS, re.M)
    assert row.split("|")[4].strip() == "", "the metric has further dimensions"
    assert alarm["Dimensions"][1]["Value"] in {folder_of(function) for function in FUNCTIONS}


@pytest.mark.parametrize("queue", [n for n in RESOURCES if n.endswith(("DeadLetters", "Failures"))])
def test_whatever_waits_for_a_person_has_an_alarm(queue: str) -> None:
    if queue == "CallFailures":  # read by those who send calls
        return
    watched = [dimensions(alarm).get("QueueName") for alarm in ALARMS.values()]
    assert {"Fn::GetAtt": [queue, "QueueName"]} in watched
