"""Whatever authors do and however S3 delivers the events of it, the index ends equal to the bucket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from moto import mock_aws
from typing_extensions import override

from llm_gateway.prompts.assembly import PromptUploads, Upload
from llm_gateway.prompts.indexing import PromptIndexer
from llm_gateway.stores.prompt_bucket import S3PromptFiles
from llm_gateway.stores.prompt_table import DynamoPromptIndex
from tests.contract.tables import client, create_bucket, create_table
from tests.fakes import NOON

PATHS = ["a.md", "support/b.prompt"]
GOOD, BETTER, BROKEN = b"Hello {{ name }}", b"Hello, dear {{ name }}", b"Hello {% if %}"
State = tuple[str, str | None, str | None]


class Histories(RuleBasedStateMachine):
    """Authors act, events are made, delivered in any order and any number of times, lost, repaired."""

    s3: Any
    dynamodb: Any

    @initialize()
    def begin(self) -> None:
        self.bucket = create_bucket(self.s3)
        self.index = DynamoPromptIndex(self.dynamodb, create_table(self.dynamodb, "PromptTable"))
        self.indexer = self._indexer(S3PromptFiles(self.s3, self.bucket))
        self.history: dict[str, list[tuple[str, bytes | None]]] = {path: [] for path in PATHS}
        self.made: list[tuple[str, str]] = []
        self.delivered: set[int] = set()
        self.lost: set[int] = set()
        self.under_way: list[tuple[int, Upload | None]] = []

    @rule(path=st.sampled_from(PATHS), data=st.sampled_from([GOOD, BETTER, BROKEN]))
    def upload(self, path: str, data: bytes) -> None:
        answer = self.s3.put_object(Bucket=self.bucket, Key=path, Body=data)
        self.history[path].append((answer["VersionId"], data))
        self._event(path)

    @rule(path=st.sampled_from(PATHS))
    def delete(self, path: str) -> None:
        if not self.history[path] or self.history[path][-1][1] is None:
            return  # moto, unlike S3, makes no marker where nothing is
        answer = self.s3.delete_object(Bucket=self.bucket, Key=path)
        self.history[path].append((answer["VersionId"], None))
        self._event(path)

    @precondition(lambda self: any(self.history.values()))
    @rule(choice=st.randoms(use_true_random=False))
    def delete_a_version_for_good(self, choice: random.Random) -> None:
        """Which revives an older one, or undoes a deletion."""
        path = choice.choice([path for path in PATHS if self.history[path]])
        gone = choice.choice(self.history[path])
        self.s3.delete_object(Bucket=self.bucket, Key=path, VersionId=gone[0])
        self.history[path].remove(gone)
        self._event(path)

    @precondition(lambda self: self.made)
    @rule(choice=st.randoms(use_true_random=False))
    def deliver_any_event_again_or_for_the_first_time(self, choice: random.Random) -> None:
        self._deliver(choice.randrange(len(self.made)))

    @precondition(lambda self: self.made)
    @rule(choice=st.randoms(use_true_random=False))
    def begin_a_delivery_that_takes_its_time(self, choice: random.Random) -> None:
        """It has read the bucket, and writes when much else has happened."""
        number = choice.randrange(len(self.made))
        read = S3PromptFiles(self.s3, self.bucket).newest(self.made[number][0], 1_000)
        self.under_way.append((number, asyncio.run(read)))

    @precondition(lambda self: self.under_way)
    @rule(choice=st.randoms(use_true_random=False))
    def end_a_delivery_that_took_its_time(self, choice: random.Random) -> None:
        number, seen = self.under_way.pop(choice.randrange(len(self.under_way)))
        self._deliver(number, self._indexer(SeenBefore(self.s3, self.bucket, seen)))

    @precondition(lambda self: self.made)
    @rule(choice=st.randoms(use_true_random=False))
    def lose_an_event(self, choice: random.Random) -> None:
        self.lost.add(choice.randrange(len(self.made)))

    @rule()
    def reconcile(self) -> None:
        asyncio.run(self.indexer.reconcile())
        self._check()

    @override
    def teardown(self) -> None:
        """In the end every event that is not lost has come, in any order; the schedule does the rest."""
        if not hasattr(self, "made"):
            return
        while self.under_way:
            number, seen = self.under_way.pop()
            self._deliver(number, self._indexer(SeenBefore(self.s3, self.bucket, seen)))
        waiting = [n for n in range(len(self.made)) if n not in self.delivered | self.lost]
        random.Random(len(self.made)).shuffle(waiting)
        for number in waiting:
            self._deliver(number)
        if self.lost:
            asyncio.run(self.indexer.reconcile())
        self._check()

    def _event(self, path: str) -> None:
        number = len(self.made)
        self.made.append((path, f"{0x55AED6 + number:X}" + "0" * (number % 3)))

    def _indexer(self, uploads: PromptUploads) -> PromptIndexer:
        return PromptIndexer(uploads, self.index, 1_000, lambda: NOON)

    def _deliver(self, number: int, indexer: PromptIndexer | None = None) -> None:
        path, sequencer = self.made[number]
        asyncio.run((indexer or self.indexer).index(path, sequencer))
        self.delivered.add(number)

    def _check(self) -> None:
        entries = [entry for entry, _ in asyncio.run(self.index.everything()).values()]
        found = {e.path: (e.state, e.version, e.uploaded_version) for e in entries if e.state != "deleted"}
        for path, history in self.history.items():
            assert found.get(path) in allowed(history), path


class SeenBefore(S3PromptFiles):
    """The bucket, of which the newest state was read some time ago."""

    def __init__(self, s3: Any, bucket: str, seen: Upload | None) -> None:
        super().__init__(s3, bucket)
        self._seen = seen

    @override
    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        return self._seen


def allowed(history: list[tuple[str, bytes | None]]) -> set[State | None]:
    """What follows from a path's history alone: state, served version, newest version.

    A good version that follows a deletion within the same second may count as deleted, too.
    """
    if not history or history[-1][1] is None:
        return {None}
    newest = history[-1][0]
    after_deletion: set[State | None] = set()
    for number, (version, data) in enumerate(history):
        if data is None:
            after_deletion = {("broken", None, newest)}
            served = None
        elif data is not BROKEN:
            served = version
        elif number == 0:
            served = None
    if served == newest:
        return {("ok", newest, newest)}
    return {("broken", served, newest)} | after_deletion


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield client("s3", None), client("dynamodb", None)


def test_any_history_delivered_in_any_way_leaves_the_index_equal_to_the_bucket(aws: tuple[Any, Any]) -> None:
    class OnMoto(Histories):
        s3, dynamodb = aws

    run_state_machine_as_test(
        OnMoto,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],  # a shrunk history is not worth its minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
