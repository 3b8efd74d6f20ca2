"""What list, metadata and a first call cost at 10, 1,000 and 10,000 prompts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

from llm_gateway.adapters.aws.prompt_files import S3PromptFiles
from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.catalogue.listing import find_entry
from local_aws import emulator
from local_aws.session import progress
from tests.contract.tables import client, create_bucket, create_table

SIZES = (10, 1_000, 10_000)
DIRECTORIES = 5
REPEATS = 20
PAGE = 50
TEXT = b"---\ndescription: One of many.\nmodel: openai/gpt-4o-mini\n---\nHello {{ name }}"


@dataclass
class Reads:
    """Requests to AWS, and the items they read, since the last reset."""

    requests: int = 0
    items: int = 0

    def count(self, parsed: Mapping[str, Any], **_: Any) -> None:
        """Called by botocore after each request."""
        self.requests += 1
        self.items += parsed.get("ScannedCount", int("Item" in parsed or "Body" in parsed))


@dataclass
class House:
    """The product's own stores on the local AWS."""

    s3: Any
    dynamodb: Any
    reads: Reads = field(default_factory=Reads)

    def __post_init__(self) -> None:
        self.bucket = create_bucket(self.s3)
        self.index = DynamoPromptIndex(self.dynamodb, create_table(self.dynamodb, "PromptTable"))
        self.files = S3PromptFiles(self.s3, self.bucket)
        for service in (self.s3, self.dynamodb):
            service.meta.events.register("after-call", self.reads.count)

    def grow(self, before: int, size: int) -> float:
        """Upload and index more prompts; returns how many were indexed each second."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._upload, range(before, size)))
        began = time.monotonic()
        indexer = PromptIndexer(self.files, self.index, 10_000, lambda: datetime.now(UTC))
        asyncio.run(indexer.reconcile())
        return (size - before) / (time.monotonic() - began)

    def _upload(self, number: int) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=path_of(number), Body=TEXT)


def path_of(number: int) -> str:
    """Prompts are spread over a few directories."""
    return f"team{number % DIRECTORIES}/prompt{number:05}.md"


def run() -> bool:
    """Measure, print, and tell whether the promise held: no read more for however many prompts."""
    progress("scale: starting the local AWS")
    rows: dict[str, list[tuple[float, int, int]]] = {}
    with emulator.running("bench-scale") as running:
        house = House(client("s3", running), client("dynamodb", running))
        before = 0
        for size in SIZES:
            progress(f"scale: growing to {size:,} prompts")
            rate = house.grow(before, size)
            progress(f"scale: {rate:.0f} prompts indexed a second by reconcile")
            before = size
            for name, operation in _operations(house, size).items():
                rows.setdefault(name, []).append(_measured(house.reads, operation))
    return _report(rows)


def _operations(house: House, size: int) -> dict[str, Callable[[], Awaitable[object]]]:
    index = house.index

    async def metadata() -> None:
        entry = await find_entry(index, path_of(size // 2))
        await asyncio.gather(index.labels(entry.path), index.history(entry.path))

    async def first_call() -> None:
        catalogue = Catalogue(index, house.files, ttl_s=1, cache_bytes=1_000_000, clock=time.monotonic)
        await catalogue.load(path_of(size - 1))

    return {
        f"list, first page of {PAGE}": lambda: index.page("", PAGE, None),
        "list, a page of one directory": lambda: index.page("team3", PAGE, None),
        "list, a page in the middle": lambda: index.page("", PAGE, path_of(size // 2)),
        "metadata of one prompt": metadata,
        "first call of a cold process": first_call,
    }


def _measured(reads: Reads, operation: Callable[[], Awaitable[object]]) -> tuple[float, int, int]:
    """Milliseconds (median), requests and items of one run."""

    async def awaited() -> None:
        await operation()

    times: list[float] = []
    for _ in range(REPEATS):
        reads.requests = reads.items = 0
        began = time.perf_counter()
        asyncio.run(awaited())
        times.append(1000 * (time.perf_counter() - began))
    return median(times), reads.requests, reads.items


def _report(rows: Mapping[str, list[tuple[float, int, int]]]) -> bool:
    print(f"\nScale: {', '.join(f'{size:,}' for size in SIZES)} prompts")
    heading = "".join(f"{f'{size:,}':>10}" for size in SIZES)
    print(f"{'':<34}{'ms, as a ratio to ' + str(SIZES[0]):^30}{'requests':^30}{'items read':^30}")
    print(f"{'':<34}{heading * 3}")
    kept = True
    for name, measured in rows.items():
        base = measured[0][0]
        cells = "".join(f"{ms / base:>10.2f}" for ms, _, _ in measured)
        cells += "".join(f"{requests:>10}" for _, requests, _ in measured)
        cells += "".join(f"{items:>10}" for _, _, items in measured)
        print(f"{name:<34}{cells}")
        bound = PAGE + 1 if name.startswith("list") else measured[0][2]
        kept = kept and all(items <= bound for _, _, items in measured)
    print(
        "No operation reads more than a page, or than at 10 prompts."
        if kept
        else "BROKEN: reads grow with the catalogue."
    )
    return kept
