"""S3's events about prompt files, and the schedule that makes good for lost ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import unquote_plus

from llm_gateway.prompts.catalogue.entries import PromptEntry
from llm_gateway.prompts.catalogue.indexing import Outcome, PromptIndexer
from llm_gateway.prompts.files.path import is_prompt_file
from llm_gateway.prompts.problem import without_words


class IndexObserver(Protocol):
    """Told what became of each file."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...

    def count(self, counts: dict[str, float | None], milliseconds: dict[str, float] | None = None) -> None:
        """Add to metrics."""
        ...


async def index_uploads(
    event: Mapping[str, Any],
    indexer: PromptIndexer,
    observer: IndexObserver,
    now: Callable[[], datetime],
) -> dict[str, int]:
    """Index every prompt file that the event names, and what includes it; other files are none of ours.

    Args:
        event: S3's.
        indexer: Keeps the index.
        observer: Logs and metrics.
        now: Aware UTC.

    Returns:
        Number of files by outcome.

    Raises:
        StoreUnavailable: So that Lambda delivers the event again.
    """
    outcomes: Counter[str] = Counter()
    failed: Exception | None = None
    for record in event.get("Records", []):  # S3's test event has none
        path = unquote_plus(record["s3"]["object"]["key"])
        if not is_prompt_file(path):
            observer.note("not a prompt file", event_name=record["eventName"])
            continue
        try:
            for outcome, entry in await indexer.index(path, record["s3"]["object"]["sequencer"]):
                _report(observer, outcome, entry)
                outcomes[outcome] += 1
        except Exception as error:  # the other files of the event come first
            failed = failed or error
            continue
        delay = now() - datetime.fromisoformat(record["eventTime"])
        observer.count({}, {"PromptDelay": delay.total_seconds() * 1000})
    if failed is not None:
        raise failed
    return dict(outcomes)


async def repair_index(indexer: PromptIndexer, observer: IndexObserver) -> dict[str, int]:
    """Compare index and bucket, and repair what lost events left behind.

    Returns:
        Number of entries that were wrong.

    Raises:
        StoreUnavailable: The schedule tries again.
    """
    repaired = await indexer.reconcile()
    for entry in repaired:
        observer.note("prompt repaired", prompt=entry.path, prompt_version=entry.version, state=entry.state)
    observer.note("index reconciled", repaired=len(repaired))
    observer.count({"IndexDrift": len(repaired)})
    return {"repaired": len(repaired)}


def _report(observer: IndexObserver, outcome: Outcome, entry: PromptEntry) -> None:
    observer.note(
        "prompt indexed",
        outcome=outcome,
        prompt=entry.path,
        prompt_version=entry.version,
        problem=without_words(entry.error),
        warnings=list(entry.warnings),
    )
    observer.count({"PromptsIndexed": 1, "PromptsBroken": int(outcome == "broken")})
