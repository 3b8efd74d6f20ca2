"""How long after an upload the last old answer is given, under constant traffic of several environments."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from statistics import quantiles

from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
from local_aws import emulator
from local_aws.session import progress, upload_and_wait
from local_aws.stack import Stack, deploy
from tests.contract.tables import client

PATH = "bench/edited.md"
CALLERS = 4
EDITS = 20
PAUSE_S = 1.5
TTL_S = 1.0  # PromptCacheTtlSeconds of the template
SLACK_S = 0.25  # between an entry's write and the bump of the generation, and the scheduler of this machine
PATIENCE_S = 10.0


@dataclass
class Traffic:
    """Callers that ask without pause, and what each of their calls was answered with.

    Attributes:
        answers: When a call was sent, and the version that answered.
        failures: Calls that were not answered.
    """

    stack: Stack
    answers: list[tuple[float, str]] = field(default_factory=list)
    failures: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def call_until_stopped(self) -> None:
        """One caller."""
        while not self.stop.is_set():
            sent = time.monotonic()
            answer = self.stack.request("POST", "/v1/call", body={"prompt": PATH})
            if answer.status_code == 200:
                self.answers.append((sent, answer.json()["prompt"]["version"]))
            else:
                self.failures += 1


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        version: The version it made.
        uploaded: When the upload returned.
        delivered: When the index held it.
    """

    version: str
    uploaded: float
    delivered: float


def run() -> bool:
    """Measure, print, and tell whether the promise held: ttl and delivery, and not longer."""
    progress("freshness: starting the local AWS")
    with emulator.running("bench-freshness") as running:
        stack = deploy(running, progress, TestLatency="none")
        upload_and_wait(stack, PATH, b"version 0")
        traffic = Traffic(stack)
        callers = [threading.Thread(target=traffic.call_until_stopped) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            edits = _edit(stack, traffic)
        finally:
            traffic.stop.set()
            for caller in callers:
                caller.join()
    return _report(edits, traffic)


def _edit(stack: Stack, traffic: Traffic) -> list[Edit]:
    index = DynamoPromptIndex(client("dynamodb", stack.emulator), stack.outputs["PromptTableName"])
    while len(traffic.answers) < CALLERS * 10:  # until every environment is warm
        time.sleep(0.1)
    edits: list[Edit] = []
    for number in range(1, EDITS + 1):
        version = stack.upload(PATH, f"version {number}".encode())
        uploaded = time.monotonic()
        edits.append(Edit(version, uploaded, _delivered(index, version)))
        progress(f"freshness: edit {number} of {EDITS}, {len(traffic.answers)} calls so far")
        time.sleep(TTL_S + PAUSE_S)
    return edits


def _delivered(index: DynamoPromptIndex, version: str) -> float:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        known = asyncio.run(index.stamp(PATH))
        if known is not None and known[0].version == version:
            return time.monotonic()
        time.sleep(0.005)
    raise TimeoutError("An upload did not reach the index.")


def _report(edits: list[Edit], traffic: Traffic) -> bool:
    order = {edit.version: number for number, edit in enumerate(edits, start=1)}
    last_old: list[float] = []
    for number, edit in enumerate(edits, start=1):
        old = [sent for sent, version in traffic.answers if order.get(version, 0) < number]
        last_old.append(max([0.0, *(sent - edit.uploaded for sent in old)]))
    delivery = [edit.delivered - edit.uploaded for edit in edits]
    late = [n for n, (o, d) in enumerate(zip(last_old, delivery, strict=True), 1) if o > d + TTL_S + SLACK_S]
    print(
        f"\nFreshness: {EDITS} edits under {len(traffic.answers)} calls of {CALLERS} callers, ttl {TTL_S:g} s"
    )
    print(f"{'seconds after the upload':<40}{'p50':>8}{'p99':>8}{'max':>8}")
    for name, values in (
        ("the index holds it (delivery)", delivery),
        ("the last old answer was asked for", last_old),
    ):
        print(f"{name:<40}{_percentile(values, 50):>8.3f}{_percentile(values, 99):>8.3f}{max(values):>8.3f}")
    print(
        f"later than delivery + ttl + {SLACK_S:g} s: {len(late)} of {EDITS}; "
        f"calls not answered: {traffic.failures}"
    )
    return not late and not traffic.failures


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
