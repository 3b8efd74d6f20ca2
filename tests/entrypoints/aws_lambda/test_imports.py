"""What a handler loads is what it pays for at every cold start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NO_MODEL = [
    "authorize",
    "list_prompts",
    "get_prompt_metadata",
    "get_usage_stats",
    "health",
    "list_models",
    "index_prompt",
    "reconcile",
    "roll_up_usage",
    "publish_usage",
    "report_failure",
]


def loaded_by(function: str) -> set[str]:
    """Top-level packages that are loaded with the handler."""
    return {name.partition(".")[0] for name in modules_of(function)}


def modules_of(function: str, **variables: str) -> set[str]:
    """Modules that `python -X importtime` sees when the handler is imported."""
    path = f"{ROOT}/layers/gateway:{ROOT}/functions/{function}"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import app"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": path,
            "AWS_DEFAULT_REGION": "us-east-1",
            "LLM_GATEWAY_TEST_MODE": "true",
            "LLM_GATEWAY_KEY_TABLE": "keys",
            "LLM_GATEWAY_KEY_PEPPER_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:pepper",
            "LLM_GATEWAY_PROMPT_BUCKET": "bucket",
            "LLM_GATEWAY_PROMPT_TABLE": "prompts",
            "LLM_GATEWAY_USAGE_TABLE": "usage",
            "LLM_GATEWAY_USAGE_EVENT_BUS": "calls",
            "LLM_GATEWAY_OUTCOME_TABLE": "outcomes",
            "LLM_GATEWAY_ANSWER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/answers",
            "LLM_GATEWAY_FAILURE_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/failures",
            **variables,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}


LIVE = {
    "LLM_GATEWAY_TEST_MODE": "false",
    "LLM_GATEWAY_OPENAI_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:x",
}


@pytest.mark.parametrize("function", ["call_prompt", "call_prompt_async"])
def test_a_function_that_calls_a_model_loads_few_of_the_sdks_types_and_no_fastapi(function: str) -> None:
    """If a new release of the SDK fails here: LLM_GATEWAY_LAZY_IMPORTS=false is the way back."""
    lean, whole = (modules_of(function, LLM_GATEWAY_LAZY_IMPORTS=lazy, **LIVE) for lazy in ("true", "false"))
    described = [{name for name in found if name.startswith("openai.types.")} for found in (lean, whole)]
    assert len(described[0]) * 3 < len(described[1])
    assert not {name for name in lean if name.startswith("fastapi")}


def test_types_that_are_loaded_lazily_are_the_real_ones_once_they_are_asked_for() -> None:
    code = (
        "from llm_gateway.providers.openai.lazy_types import load_types_lazily\n"
        "load_types_lazily(); load_types_lazily()\n"
        "import openai, sys\n"
        "assert sum(type(f).__name__ == '_TypesFinder' for f in sys.meta_path) == 1\n"
        "assert 'openai.types.beta.assistant' not in sys.modules\n"
        "from openai.types.chat import ChatCompletion\n"
        "assert openai.types.chat.ChatCompletion is ChatCompletion\n"
        "assert issubclass(ChatCompletion, openai.BaseModel)\n"
        "from openai.types import *\n"
        "assert Completion is openai.types.Completion\n"
        "try:\n"
        "    openai.types.chat.Nothing\n"
        "except AttributeError:\n"
        "    print('done')\n"
    )
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}/layers/gateway"}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr


@pytest.mark.parametrize("function", ["call_prompt", "call_prompt_async"])
def test_budgets_are_loaded_only_where_somebody_has_one(function: str) -> None:
    parts = {f"llm_gateway.{name}" for name in ("budgets.budgets", "budgets.limits", "adapters.aws.budgets")}
    assert not parts & modules_of(function)
    budget = {"LLM_GATEWAY_BUDGETS": '{"shop": {"day_usd": 1}}', "LLM_GATEWAY_BUDGET_TABLE": "budgets"}
    assert parts <= modules_of(function, **budget)


@pytest.mark.parametrize("function", NO_MODEL)
def test_a_function_that_calls_no_model_loads_no_vendors_sdk(function: str) -> None:
    assert "openai" not in loaded_by(function)


@pytest.mark.parametrize(
    "function", ["list_prompts", "list_models", "get_prompt_metadata", "get_usage_stats", "health"]
)
def test_a_function_that_renders_nothing_loads_no_template_engine(function: str) -> None:
    assert loaded_by(function) & {"jinja2", "yaml", "jsonschema_rs", "tenacity"} == set()


@pytest.mark.parametrize("function", ["call_prompt_async", "index_prompt", "roll_up_usage", "publish_usage"])
def test_a_function_behind_events_loads_no_web_framework(function: str) -> None:
    assert loaded_by(function) & {"fastapi", "starlette", "mangum"} == set()


def test_importing_the_gateways_modules_reads_no_environment_and_builds_no_client() -> None:
    code = (
        "import os, pkgutil, importlib, llm_gateway\n"
        "os.environ.clear()\n"
        "for m in pkgutil.walk_packages(llm_gateway.__path__, 'llm_gateway.'):\n"
        "    importlib.import_module(m.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}/layers/gateway",
            "LLM_GATEWAY_RETRY_LIMIT": "x",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
