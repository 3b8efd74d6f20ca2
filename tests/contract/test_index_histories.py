"""Whatever authors do and however S3 delivers the events of it, the index ends equal to the bucket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
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

from llm_gateway.adapters.aws.prompt_files import S3PromptFiles
from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.prompts.catalogue.assembly import PromptUploads, Upload
from llm_gateway.prompts.catalogue.entries import PromptEntry, Stamp, own_version
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from tests.contract.tables import client, create_bucket, create_table
from tests.fakes import NOON

PATHS = ["a.md", "support/b.prompt", "_tone.md"]
GOOD, BETTER, BROKEN = b"Hello {{ name }}", b"Hello, dear {{ name }}", b"Hello {% if %}"
INCLUDING = b'{% include "_tone.md" %} {{ name }}'
Seen = tuple[tuple[PromptEntry, Stamp] | None, Upload | None]


class Histories(RuleBasedStateMachine):
    """Authors act, events are made, delivered in any order and any number of times, lost, repaired."""

    s3: Any
    dynamodb: Any

    @initialize()
    def begin(self) -> None:
        self.bucket = create_bucket(self.s3)
        self.table = create_table(self.dynamodb, "PromptTable")
        self.index = DynamoPromptIndex(self.dynamodb, self.table)
        self.indexer = self._indexer(S3PromptFiles(self.s3, self.bucket))
        self.history: dict[str, list[tuple[str, bytes | None]]] = {path: [] for path in PATHS}
        self.made: list[tuple[str, str]] = []
        self.delivered: set[int] = set()
        self.lost: set[int] = set()
        self.under_way: list[tuple[int, Seen]] = []

    @rule(path=st.sampled_from(PATHS), data=st.sampled_from([GOOD, BETTER, INCLUDING, BROKEN]))
    def upload(self, path: str, data: bytes) -> None:
        if path == "_tone.md" and data is INCLUDING:
            data = GOOD
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
        path = self.made[number][0]
        known = asyncio.run(self.index.stamp(path))
        read = asyncio.run(S3PromptFiles(self.s3, self.bucket).newest(path, 1_000))
        self.under_way.append((number, (known, read)))

    @precondition(lambda self: self.under_way)
    @rule(choice=st.randoms(use_true_random=False))
    def end_a_delivery_that_took_its_time(self, choice: random.Random) -> None:
        number, seen = self.under_way.pop(choice.randrange(len(self.under_way)))
        self._deliver(number, self._slow(seen))

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
            self._deliver(number, self._slow(seen))
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

    def _slow(self, seen: Seen) -> PromptIndexer:
        """Once the index refuses its write it looks again, at what is true by then."""
        known, upload = seen
        index = SeenEntry(self.dynamodb, self.table, known)
        return PromptIndexer(SeenUpload(self.s3, self.bucket, upload), index, 1_000, lambda: NOON)

    def _deliver(self, number: int, indexer: PromptIndexer | None = None) -> None:
        path, sequencer = self.made[number]
        asyncio.run((indexer or self.indexer).index(path, sequencer))
        self.delivered.add(number)

    def _check(self) -> None:
        """The index is what a fresh one, made by looking at the bucket alone, would be."""
        fresh = InMemoryPromptIndex()
        asyncio.run(
            PromptIndexer(S3PromptFiles(self.s3, self.bucket), fresh, 1_000, lambda: NOON).reconcile()
        )
        expected = {path: e for path, e in asyncio.run(fresh.everything()).items() if e.state != "deleted"}
        entries = asyncio.run(self.index.everything())
        found = {path: entry for path, entry in entries.items() if entry.state != "deleted"}
        assert {p: comparable(e) for p, e in found.items()} == {p: comparable(e) for p, e in expected.items()}
        for path in set(PATHS) - {"_tone.md"}:
            self._check_served(path, found.get(path))

    def _check_served(self, path: str, entry: PromptEntry | None) -> None:
        """And what a fresh look gives is what an author means: the newest that works."""
        history = self.history[path]
        if not history or history[-1][1] is None:
            assert entry is None, path
            return
        assert entry is not None, path
        newest, data = history[-1]
        assert entry.sources[path] == newest, path
        usable = {GOOD, BETTER} | ({INCLUDING} if self._tone_was_ever_good() else set())
        if data in usable:
            assert entry.version is not None, path
            assert own_version(entry.version) == newest, path
        elif data is BROKEN:
            assert entry.state == "broken", path
        if entry.version is not None:
            assert dict(history)[own_version(entry.version)] in usable, path

    def _tone_was_ever_good(self) -> bool:
        return any(data in (GOOD, BETTER) for _, data in self.history["_tone.md"])


class SeenUpload(S3PromptFiles):
    """The bucket, of which the newest state was read some time ago, the first time."""

    def __init__(self, s3: Any, bucket: str, seen: Upload | None) -> None:
        super().__init__(s3, bucket)
        self._seen = [seen]

    @override
    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        return self._seen.pop() if self._seen else await super().newest(path, max_bytes)


class SeenEntry(DynamoPromptIndex):
    """The index, of which an entry was read some time ago, the first time."""

    def __init__(self, dynamodb: Any, table: str, seen: tuple[PromptEntry, Stamp] | None) -> None:
        super().__init__(dynamodb, table)
        self._seen = [seen]

    @override
    async def stamp(self, path: str) -> tuple[PromptEntry, Stamp] | None:
        return self._seen.pop() if self._seen else await super().stamp(path)


def comparable(entry: PromptEntry) -> PromptEntry:
    """Moto dates listings coarsely."""
    return replace(entry, last_modified=NOON)


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
