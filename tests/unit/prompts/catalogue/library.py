"""A catalogue between in-memory stores and a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from typing_extensions import override

from llm_gateway.errors import StoreUnavailable
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.entries import PromptEntry
from llm_gateway.prompts.catalogue.indexing import Outcome, PromptIndexer
from tests.fakes import NOON, CountingPromptIndex, InMemoryPromptFiles


class Index(CountingPromptIndex):
    """The prompt index, which can be down, or slow to hand over what it found.

    Attributes:
        down: Every read is refused.
        held: What `find` waits for after it has looked; None: nothing.
        found: Set once `find` has looked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.held: asyncio.Event | None = None
        self.found = asyncio.Event()

    @override
    async def generation(self) -> int:
        self._refuse_if_down()
        return await super().generation()

    @override
    async def find(self, path: str) -> Sequence[PromptEntry]:
        self._refuse_if_down()
        entries = await super().find(path)
        self.found.set()
        if self.held is not None:
            await self.held.wait()
        return entries

    def _refuse_if_down(self) -> None:
        if self.down:
            raise StoreUnavailable("The index does not answer.")


class Library:
    """A catalogue, what feeds it, and the time.

    Attributes:
        now: Seconds on the catalogue's clock.
        unchecked: Why the view could not be checked, each time.
    """

    def __init__(self, ttl_s: float = 1.0, cache_bytes: int = 1_000) -> None:
        self.now = 0.0
        self.unchecked: list[Exception] = []
        self.index = Index()
        self.files = InMemoryPromptFiles()
        self.catalogue = Catalogue(
            self.index,
            self.files,
            ttl_s=ttl_s,
            cache_bytes=cache_bytes,
            clock=lambda: self.now,
            unchecked=self.unchecked.append,
        )
        self._indexer = PromptIndexer(self.files, self.index, max_bytes=1_000, now=lambda: NOON)
        self._events = 0

    def publish(self, path: str, text: str) -> str:
        """Upload a file and index it; its version."""
        version = self.files.upload(path, text.encode())
        self.process_event(path)
        return version

    def delete(self, path: str) -> None:
        self.files.delete(path)
        self.process_event(path)

    def process_event(self, path: str, sequencer: str | None = None) -> tuple[Outcome, PromptEntry]:
        """What happens when the bucket reports a change at `path`, by default the newest event yet."""
        (result,) = self.process_events(path, sequencer)
        return result

    def process_events(
        self, path: str, sequencer: str | None = None
    ) -> Sequence[tuple[Outcome, PromptEntry]]:
        """As `process_event`, of a partial that any number of prompts include."""
        self._events += 1
        return asyncio.run(self._indexer.index(path, sequencer or f"{self._events:06X}"))

    def publish_partial(self, path: str, text: str) -> str:
        """Upload a partial and index what includes it; its version."""
        version = self.files.upload(path, text.encode())
        self.process_events(path)
        return version

    def reconcile(self) -> list[str]:
        """Compare index and files; the paths that were repaired."""
        return [entry.path for entry in asyncio.run(self._indexer.reconcile())]

    def entry(self, path: str) -> PromptEntry | None:
        """What the index holds at `path`, deleted or not."""
        found = asyncio.run(self.index.stamp(path))
        return None if found is None else found[0]

    def read(self, path: str, version: str | None = None, label: str | None = None, key: str = "") -> str:
        """What the prompt says as one message, without variables."""
        return asyncio.run(self.read_async(path, version, label, key))

    async def read_async(
        self, path: str, version: str | None = None, label: str | None = None, key: str = ""
    ) -> str:
        prompt = await self.catalogue.load(path, version, label, key)
        (message,) = prompt.render({}, 1_000)
        return message.content

    def reads(self) -> tuple[int, int]:
        """Reads of the index and of the files since the last time this was asked."""
        counted = self.index.reads, self.files.reads
        self.index.reads = self.files.reads = 0
        return counted
