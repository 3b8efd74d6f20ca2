"""Every token once, on the deployed stack: while functions die and while the ledger is away."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import Stack

pytestmark = [pytest.mark.aws, pytest.mark.alone]

CALLS = 300
CALLERS = 6
PROMPT = "usage/exact.md"
TO_THE_CENT = Decimal("1e-9")


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Stack:
    upload_and_wait(stack, PROMPT, b"Say hello to {{ name }}.")
    return stack


def call(stack: Stack, service: str, name: str = "Ada") -> dict[str, Any]:
    body = {"prompt": PROMPT, "variables": {"name": name}, "calling_service": service}
    answer = stack.request("POST", "/v1/call", body=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def totals(stack: Stack, service: str) -> dict[str, Any]:
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = start - timedelta(days=1), start + timedelta(days=2)
    query = f"start={start:%Y-%m-%dT%H:%M:%SZ}&end={end:%Y-%m-%dT%H:%M:%SZ}&calling_service={service}"
    found: dict[str, Any] = stack.request("GET", f"/v1/usage?{query}").json()["totals"]
    return found


def assert_equal(summed: dict[str, Any], answers: list[dict[str, Any]]) -> None:
    assert summed["requests"] == len(answers)
    for name in ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"):
        assert summed[name] == sum(answer["usage"][name] for answer in answers)
    cost = sum(Decimal(answer["cost_usd"]) for answer in answers)
    assert abs(Decimal(summed["cost_usd"]) - cost) < TO_THE_CENT


def processes_of(function: str) -> list[int]:
    """The environments of a function: the local AWS runs each as a process."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if f"AWS_LAMBDA_FUNCTION_NAME={function}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


@contextmanager
def dying(function: str) -> Iterator[list[int]]:
    """Kills the function's environments again and again, in the middle of whatever they do."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.7):
            for process in processes_of(function):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def function_named(stack: Stack, part: str) -> str:
    names = [f["FunctionName"] for f in stack.functions.list_functions()["Functions"]]
    [name] = [name for name in names if part in name]
    return name


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes to kill in /proc")
def test_sums_equal_the_answers_of_hundreds_of_calls_while_the_counting_function_dies(gateway: Stack) -> None:
    service = f"dying-{uuid.uuid4().hex[:8]}"
    with dying(function_named(gateway, "RollUpUsage")) as killed, ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda n: call(gateway, service, "x" * (n % 50)), range(CALLS)))
        wait_until(lambda: len(killed) >= 2, "the function has died twice")
    wait_until(lambda: totals(gateway, service)["requests"] >= CALLS, "every call is counted")
    time.sleep(2)  # nothing is counted twice afterwards, either
    assert_equal(totals(gateway, service), answers)


def test_calls_made_while_the_ledger_is_away_are_counted_once_it_is_back(gateway: Stack) -> None:
    service = f"away-{uuid.uuid4().hex[:8]}"
    call(gateway, "warm")
    name = gateway.outputs["CallPromptFunctionName"]
    with gateway.settings(name, LLM_GATEWAY_USAGE_TABLE="nowhere"):
        answers = [call(gateway, service) for _ in range(12)]
    wait_until(lambda: totals(gateway, service)["requests"] >= len(answers), "the queue is drained")
    assert_equal(totals(gateway, service), answers)
    refused = [line for line in gateway.log_lines() if line.get("message") == "ledger refused"]
    assert {line["call_id"] for line in refused} >= {answer["call_id"] for answer in answers}
    lost = [line for line in gateway.log_lines() if line.get("message") == "usage not recorded"]
    assert lost == []
