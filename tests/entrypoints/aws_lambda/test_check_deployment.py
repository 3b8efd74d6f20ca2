"""The check before a new version gets traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from llm_gateway.entrypoints.aws_lambda.deployment_check import check_deployment
from llm_gateway.errors import StoreUnavailable
from tests.entrypoints.aws_lambda.conftest import read_event
from tests.fakes import RecordingObserver

REQUEST = {"prompt": "deployment_check", "variables": {"word": "ok"}}


class Version:
    """A new version, and CodeDeploy behind it."""

    def __init__(self, answer: Mapping[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[Mapping[str, Any]] = []
        self.told: list[tuple[str, str, str]] = []

    async def invoke(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def report(self, deployment_id: str, hook_id: str, verdict: str) -> None:
        self.told.append((deployment_id, hook_id, verdict))


def check(version: Version) -> str:
    event = read_event("check_deployment_before_traffic")
    observer = RecordingObserver()
    asyncio.run(check_deployment(event, REQUEST, version.invoke, version.report, observer))
    [(deployment_id, hook_id, verdict)] = version.told
    assert (deployment_id, hook_id) == (event["DeploymentId"], event["LifecycleEventHookExecutionId"])
    return verdict


def test_a_version_that_answers_may_have_traffic_and_is_called_in_test_mode() -> None:
    version = Version({"text": "ok", "call_id": "1"})
    assert check(version) == "Succeeded"
    assert version.asked == [{**REQUEST, "test_mode": True}]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"error": {"code": "prompt_not_found"}}, "Succeeded"),
        ({"error": {"code": "store_unavailable"}}, "Failed"),
        ({"error": {"code": "internal_error"}}, "Failed"),
        ({"error": {"code": "missing_variables"}}, "Failed"),
        (StoreUnavailable("no"), "Failed"),
        (ValueError("not an answer"), "Failed"),
    ],
)
def test_any_failure_but_an_absent_prompt_stops_the_deployment(
    answer: Mapping[str, Any] | Exception, verdict: str
) -> None:
    assert check(Version(answer)) == verdict
