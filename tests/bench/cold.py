"""What a cold start costs: import and first call of every built function, beside a naive handler.

CPU of the process itself, above the bare interpreter. Everything on loopback is plain HTTP, so the
AWS clients build no TLS context here; a vendor's SDK builds one anyway.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import boto3

from cfn_yaml import load_template
from local_aws import artefacts, emulator
from local_aws.emulator import PYTHON, REGION, ROOT
from local_aws.session import PROMPTS, progress, upload_and_wait
from local_aws.stack import STACK_NAME, Stack, deploy, put_openai_key
from tests import upstream

RUNS = 7
CALLS = 20  # until memory and modules are looked at
MODEL_BUDGET = 0.65  # of the naive handler's import and first call
OTHER_BUDGET = 0.50
MEMORY_BUDGET_MB = 85.0
NAIVE = "naive"
EVENTS = (  # a function and an event
    ("call_prompt", "call_prompt_direct"),
    ("call_prompt", "call_prompt_http"),
    ("call_prompt_async", "call_prompt_async_invoke"),
    ("list_models", "list_models_all"),
    ("list_prompts", "list_prompts_all"),
    ("get_prompt_metadata", "get_prompt_metadata_found"),
    ("get_usage_stats", "get_usage_stats_by_model"),
    ("health", "health_ready"),
    ("index_prompt", "index_prompt_created"),
    ("reconcile", "reconcile_schedule"),
    ("roll_up_usage", "roll_up_usage_batch"),
    ("drain_usage", "drain_usage_batch"),
    ("authorize", "authorize_request"),
    ("report_failure", "report_failure_crashed"),
    ("publish_usage", "publish_usage_batch"),
)
NOT_WAITED_FOR = {"check_deployment"}  # runs once in each deployment
_PASSED_ON = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Start:
    """One way to start an environment: its command and its variables."""

    function: str
    event: str
    command: Sequence[str]
    variables: Mapping[str, str]

    def costs(self) -> dict[str, float]:
        """Of a fresh process.

        Raises:
            RuntimeError: It failed; says how.
        """
        done = subprocess.run(
            self.command, env=self.variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{self.function} failed with {self.event}:\n{done.stderr}")
        costs: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
        return costs


def run() -> bool:
    """Measure, print, and tell whether every budget is kept."""
    functions = {app.parent.name for app in ROOT.glob("functions/*/app.py")}
    assert {function for function, _ in EVENTS} == functions - NOT_WAITED_FOR
    progress("cold: starting the local AWS")
    with upstream.running() as model, emulator.running("bench-cold") as running:
        live = {"TestMode": "false", "OpenAIBaseUrl": model.url, "UsageEventBus": "default"}
        stack = deploy(running, progress, **live)
        put_openai_key(stack, "test")
        upload_and_wait(stack, "support/reply.prompt", (PROMPTS / "support/reply.prompt").read_bytes())
        starts = _starts(stack)
        rounds: list[list[dict[str, float]]] = []
        for number in range(1, RUNS + 1):
            progress(f"cold: round {number} of {RUNS}, {len(starts)} environments each")
            rounds.append([start.costs() for start in starts])
    return _report(starts, [_medians(costs) for costs in zip(*rounds, strict=True)])


def _starts(stack: Stack) -> list[Start]:
    """The naive handler, then every function with its events."""
    built = artefacts.build(load_template(), progress)
    layers = [built["DependenciesLayer"] / "python", built["GatewayLayer"] / "python"]
    naive = Path(__file__).with_name("naive.py")
    variables = _variables("call_prompt", stack)
    starts = [Start(NAIVE, "call_prompt_http", _command(naive, "call_prompt_http", layers[:1]), variables)]
    for function, event in EVENTS:
        file = built[_logical_id(function)] / "app.py"
        command = _command(file, event, [file.parent, *layers])
        starts.append(Start(function, event, command, _variables(function, stack)))
    return starts


def _command(file: Path, event: str, folders: Sequence[Path]) -> list[str]:
    asked = {
        "file": str(file),
        "event": str(ROOT / "events" / f"{event}.json"),
        "folders": [str(folder) for folder in folders],
        "calls": CALLS,
    }
    program = Path(__file__).with_name("environment.py")
    return [str(PYTHON), "-I", "-S", "-B", str(program), json.dumps(asked)]


def _variables(function: str, stack: Stack) -> Mapping[str, str]:
    """The deployed function's own, and what leads the AWS clients to the local AWS."""
    arguments = stack.emulator.client_arguments
    cloudformation = boto3.client("cloudformation", **arguments)  # type: ignore[call-overload]
    resource = cloudformation.describe_stack_resource(
        StackName=STACK_NAME, LogicalResourceId=_logical_id(function)
    )
    name = resource["StackResourceDetail"]["PhysicalResourceId"]
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **stack.settings_of(name),
        "AWS_ENDPOINT_URL": stack.emulator.endpoint,
        "AWS_ACCESS_KEY_ID": arguments["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": arguments["aws_secret_access_key"],
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_FUNCTION_NAME": function,
    }


def _logical_id(function: str) -> str:
    return "".join(word.capitalize() for word in function.split("_")) + "Function"


def _medians(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(cost[name] for cost in costs) for name in costs[0]}


def _report(starts: Sequence[Start], costs: Sequence[Mapping[str, float]]) -> bool:
    naive_ms = costs[0]["cold_ms"]
    print(f"\nCold start: CPU ms above the bare interpreter, median of {RUNS} fresh processes")
    print(f"{'function':<21}{'event':<27}{'import':>7}{'+ call':>7}{'/naive':>8}{'budget':>8}", end="")
    print(f"{'modules':>9}{'MB':>6}")
    broken: list[str] = []
    for start, cost in zip(starts, costs, strict=True):
        ratio, budget = cost["cold_ms"] / naive_ms, _budget(start.function)
        print(
            f"{start.function:<21}{start.event:<27}{cost['import_ms']:>7.0f}{cost['cold_ms']:>7.0f}", end=""
        )
        print(f"{ratio:>8.2f}{f'{budget:.2f}' if budget else '':>8}", end="")
        print(f"{cost['modules']:>9.0f}{cost['memory_mb']:>6.0f}")
        if budget and ratio > budget:
            broken.append(f"{start.function} ({start.event}) costs {ratio:.2f} of the naive handler")
        if start.function.startswith("call_prompt") and cost["memory_mb"] > MEMORY_BUDGET_MB:
            broken.append(f"{start.function} ({start.event}) takes {cost['memory_mb']:.0f} MB")
    print(
        f"Modules and MB (peak, resident) after {CALLS} calls; call_prompt may take {MEMORY_BUDGET_MB:g} MB."
    )
    print("\n".join(f"BROKEN: {what}." for what in broken) or "Every budget is kept.")
    return not broken


def _budget(function: str) -> float | None:
    if function == NAIVE:
        return None
    return MODEL_BUDGET if function.startswith("call_prompt") else OTHER_BUDGET
