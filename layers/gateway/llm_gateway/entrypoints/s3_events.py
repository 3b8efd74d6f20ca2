"""S3's events about prompt files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import unquote_plus

from llm_gateway.models import PromptEntry
from llm_gateway.prompts.indexing import Outcome, PromptIndexer
from llm_gateway.prompts.path import is_partial, is_prompt_file


class IndexObserver(Protocol):
    """Told what became of each file."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...

    def count(self, counts: dict[str, float | None]) -> None:
        """Add to metrics."""
        ...


async def index_uploads(
    event: Mapping[str, Any], indexer: PromptIndexer, observer: IndexObserver
) -> dict[str, int]:
    """Index every prompt file that the event names; other files are none of ours.

    Returns:
        Number of files by outcome.

    Raises:
        StoreUnavailable: So that Lambda delivers the event again.
    """
    outcomes: dict[str, int] = {}
    for record in event.get("Records", []):  # S3's test event has none
        item = record["s3"]["object"]
        path = unquote_plus(item["key"])
        if not is_prompt_file(path) or is_partial(path):
            observer.note("not a prompt file", event_name=record["eventName"])
            continue
        event_time = datetime.fromisoformat(record["eventTime"])
        outcome, entry = await indexer.index(path, item["sequencer"], event_time)
        _report(observer, outcome, entry)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def _report(observer: IndexObserver, outcome: Outcome, entry: PromptEntry) -> None:
    observer.note(
        "prompt indexed",
        outcome=outcome,
        prompt=entry.path,
        prompt_version=entry.version,
        problem=entry.error,
        warnings=list(entry.warnings),
    )
    observer.count({"PromptsIndexed": 1, "PromptsBroken": int(outcome == "broken")})
