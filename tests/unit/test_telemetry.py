"""Log lines and metrics that no function's own test brings about."""

from __future__ import annotations

import json

import pytest

from llm_gateway.errors import StoreUnavailable
from llm_gateway.telemetry import Telemetry


@pytest.mark.parametrize(
    ("error", "details"),
    [(StoreUnavailable("…", details={"reason": "Throttled"}), {"reason": "Throttled"}), (TimeoutError(), {})],
)
def test_prompts_that_nobody_could_check_are_a_warning_and_a_metric(
    error: Exception, details: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    function = f"told_{type(error).__name__}"  # a logger of its own: it keeps the output it first wrote to
    Telemetry(function, "local", "INFO").prompts_unchecked(error)
    warning, metric = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (warning["level"], warning["error"], warning["details"]) == (
        "WARNING",
        type(error).__name__,
        details,
    )
    assert metric["PromptsUnchecked"] == [1.0]
