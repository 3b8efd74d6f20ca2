"""What the gateway adds to a warm call: its CPU beside the bare SDK call and item write it consists of.

Only this process counts, all of its threads; the model and the local AWS are processes of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import openai

from llm_gateway.adapters.aws.prompt_files import S3PromptFiles
from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.prompt import parse_prompt
from local_aws import emulator
from local_aws.emulator import REGION, ROOT, Emulator
from local_aws.session import PROMPTS, progress
from tests import upstream
from tests.bench.apart import served_apart
from tests.bench.environment import LambdaContext, load, succeeded
from tests.contract.tables import client, create_bucket, create_table

ROUNDS = 30
CALLS = 20  # of each kind in a round
RATIO_BUDGET = 1.0  # of the bare calls, for a direct invoke
OWN_BUDGET_MS = 0.3  # above the bare calls, for a direct invoke
PROMPT = "support/reply.prompt"
BARE, DIRECT, HTTP = "bare SDKs", "direct invoke", "HTTP event"


@dataclass(frozen=True)
class Stores:
    """What a call needs, on the local AWS, without a stream that would keep this machine busy."""

    running: Emulator
    bucket: str
    prompt_table: str
    usage_table: str
    outcome_table: str
    secret: str

    @classmethod
    def made(cls, running: Emulator) -> Stores:
        """With one prompt in them."""
        s3, dynamodb, secrets = (client(x, running) for x in ("s3", "dynamodb", "secretsmanager"))
        bucket = create_bucket(s3)
        names = ("PromptTable", "UsageTable", "OutcomeTable")
        prompts, usage, outcomes = (create_table(dynamodb, name) for name in names)
        secret = secrets.create_secret(Name="bench", SecretString="test")["ARN"]
        s3.put_object(Bucket=bucket, Key=PROMPT, Body=(PROMPTS / PROMPT).read_bytes())
        index = DynamoPromptIndex(dynamodb, prompts)
        indexer = PromptIndexer(S3PromptFiles(s3, bucket), index, 1_000_000, lambda: datetime.now(UTC))
        asyncio.run(indexer.reconcile())
        return cls(running, bucket, prompts, usage, outcomes, secret)

    def variables(self, model_url: str) -> Mapping[str, str]:
        """Environment of a deployed call_prompt, out of test mode."""
        arguments = self.running.client_arguments
        return {
            "AWS_ENDPOINT_URL": self.running.endpoint,
            "AWS_ACCESS_KEY_ID": arguments["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": arguments["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": REGION,
            "LLM_GATEWAY_OPENAI_BASE_URL": model_url,
            "LLM_GATEWAY_OPENAI_SECRET_ARN": self.secret,
            "LLM_GATEWAY_PROMPT_BUCKET": self.bucket,
            "LLM_GATEWAY_PROMPT_TABLE": self.prompt_table,
            "LLM_GATEWAY_USAGE_TABLE": self.usage_table,
            "LLM_GATEWAY_OUTCOME_TABLE": self.outcome_table,
        }


def run() -> bool:
    """Measure, print, and tell whether every budget is kept."""
    progress("overhead: starting the local AWS and a model")
    with served_apart(_serve) as url, emulator.running("bench-overhead") as running:
        stores = Stores.made(running)
        with (
            patch.dict(os.environ, stores.variables(url)),
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),  # where the log goes
        ):
            handled = _handled_calls()
            measured = _measured({**_bare_calls(stores, url), **handled})
    return _report(measured)


def _serve(parent: Connection) -> None:
    with upstream.running() as server:
        parent.send(server.url)
        parent.recv()


def _handled_calls() -> dict[str, Callable[[], object]]:
    """The function as Lambda calls it, warm."""
    handler = load(ROOT / "functions" / "call_prompt" / "app.py").handler

    def calls(event: Mapping[str, Any]) -> Callable[[], object]:
        def call() -> None:
            assert succeeded(handler(event, LambdaContext()))

        return call

    events = {DIRECT: "call_prompt_direct", HTTP: "call_prompt_http"}
    handled = {name: calls(_event(event)) for name, event in events.items()}
    for call in handled.values():
        call()
    return handled


def _bare_calls(stores: Stores, url: str) -> dict[str, Callable[[], object]]:
    """The same request to the model and the same item, and nothing else."""
    dynamodb = client("dynamodb", stores.running)
    model = openai.AsyncOpenAI(base_url=url, api_key="test", max_retries=0)
    loop = asyncio.new_event_loop()
    event = _event("call_prompt_direct")
    prompt = parse_prompt(PROMPT, "1", (PROMPTS / PROMPT).read_bytes())
    messages: list[Any] = [
        {"role": m.role, "content": m.content} for m in prompt.render(event["variables"], 1_000_000)
    ]
    [item, *_] = dynamodb.scan(TableName=stores.usage_table)["Items"]

    def ask() -> None:
        chat = model.chat.completions
        loop.run_until_complete(chat.create(model="gpt-4o-mini", messages=messages, **event["parameters"]))

    def put() -> None:
        fresh = {**item, "sk": {"S": uuid.uuid4().hex}}
        dynamodb.put_item(TableName=stores.usage_table, Item=fresh)

    def both() -> None:
        ask()
        put()

    return {BARE: both, "  its model call": ask, "  its item write": put}


def _event(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    return event


def _measured(kinds: Mapping[str, Callable[[], object]]) -> Mapping[str, float]:
    """CPU milliseconds of one call, the median of all rounds; the kinds take turns in any order."""
    rounds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(-1, ROUNDS):  # the first one warms up
        if number % 10 == 0:
            progress(f"overhead: round {number} of {ROUNDS}, {CALLS} calls of each kind")
        for name, call in random.sample(list(kinds.items()), len(kinds)):
            spent = _cpu_ms(call)
            if number >= 0:
                rounds[name].append(spent)
    return {name: median(spent) for name, spent in rounds.items()}


def _cpu_ms(call: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        call()
    return 1000 * (time.process_time() - began) / CALLS


def _report(measured: Mapping[str, float]) -> bool:
    bare, direct = measured[BARE], measured[DIRECT]
    own_ms = direct - bare
    print(f"\nWarm call: CPU ms, median of {ROUNDS} rounds of {CALLS} calls")
    print(f"{'':<26}{'ms':>8}{'/bare':>8}{'budget':>8}")
    for name, spent in measured.items():
        budget = f"{RATIO_BUDGET:.2f}" if name == DIRECT else ""
        print(f"{name:<26}{spent:>8.2f}{spent / bare:>8.2f}{budget:>8}")
    print(f"{'direct invoke above bare':<26}{own_ms:>8.2f}{'':>8}{OWN_BUDGET_MS:>8.2f}")
    kept = direct <= RATIO_BUDGET * bare and own_ms <= OWN_BUDGET_MS
    print("Every budget is kept." if kept else "BROKEN: a direct invoke costs more than its budget.")
    return kept
