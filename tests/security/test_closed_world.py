"""Nothing but values of a template's world comes out of anything that a template can do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_gateway.prompts.rendering.conditions import TESTS
from llm_gateway.prompts.rendering.filters import FILTERS
from llm_gateway.prompts.rendering.functions import FUNCTIONS
from llm_gateway.prompts.rendering.methods import TABLES

_ROOT = Path(__file__).parent.parent.parent
_CANARY = "canary-0f7a"
_SEED = 3


@pytest.fixture(scope="module")
def seen() -> dict[str, Counter[str]]:
    """What one run over all operations saw, with 96 MB more memory than it began with."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.security.closed_world", str(_SEED), _CANARY],
        cwd=_ROOT,
        env={
            "PYTHONPATH": "layers/gateway",
            "LLM_GATEWAY_OPENAI_API_KEY": _CANARY,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2_000:]
    found: dict[str, Any] = json.loads(run.stdout)
    return {name: Counter(counts) for name, counts in found.items()}


def test_whatever_goes_into_an_operation_only_values_of_the_world_come_out(
    seen: dict[str, Counter[str]],
) -> None:
    """The run ends with an error at the first that does not belong, is too large or shows Python itself."""
    tried = seen["succeeded"] + seen["refused"]
    kinds = {"filter": FILTERS, "test": TESTS, "function": FUNCTIONS}
    expected = {f"{kind} {name}" for kind, table in kinds.items() for name in table}
    expected |= {f"method {name}" for table in TABLES for name in table}
    assert expected <= tried.keys()
    assert min(tried[name] for name in expected) > 50


def test_nearly_every_operation_gives_something_for_one_of_the_values(seen: dict[str, Counter[str]]) -> None:
    never = (seen["succeeded"] + seen["refused"]).keys() - seen["succeeded"].keys()
    assert len(never) < 5, never


def test_generated_templates_are_broken_refused_or_rendered_and_show_nothing_of_the_process(
    seen: dict[str, Counter[str]],
) -> None:
    assert seen["templates"].keys() <= {
        "PromptSyntaxError",
        "InvalidVariables",
        "RenderLimitExceeded",
        "rendered",
    }
    assert seen["templates"]["rendered"] > 5
