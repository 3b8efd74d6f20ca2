"""Hot reload: a folder of prompts is looked at again and again, and every change indexed.

Looking is right on every file system. Notifications of the system are not: they miss links that are replaced
at or above the folder, and are not sent at all by network disks and most mounts of a virtual machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from llm_gateway.errors import StoreUnavailable
from llm_gateway.prompts.catalogue.entries import PromptEntry
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.problem import without_words

EVERY_S = 0.5
_MOST_OF_THE_TIME = 10  # a look that takes a second is followed by ten seconds' rest
_SILENT_S = 10.0


class WatchObserver(Protocol):
    """Told of what changed."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...

    def warn(self, message: str, **facts: Any) -> None:
        """Something an operator has to know."""
        ...

    def count(self, counts: dict[str, float | None]) -> None:
        """Add to metrics."""
        ...


class FolderWatch:
    """Looks at the folder and keeps the index equal to it; every trouble is logged when it begins and ends.

    Args:
        root: The folder, for the log.
        indexer: Keeps the index.
        observer: Logs and metrics.
        faults: Files that cannot be read, by path, with the reason.
        silent_s: How long a look may take before the folder counts as away.
    """

    def __init__(
        self,
        root: Path,
        indexer: PromptIndexer,
        observer: WatchObserver,
        faults: Callable[[], Mapping[str, str]] = dict,
        silent_s: float = _SILENT_S,
    ) -> None:
        self._root = root
        self._indexer = indexer
        self._observer = observer
        self._faults = faults
        self._silent_s = silent_s
        self._trouble: str | None = None
        self._known_faults: dict[str, str] = {}

    @property
    def available(self) -> bool:
        """False while the folder cannot be used and the prompts of before are served."""
        return self._trouble is None

    async def check(self) -> None:
        """For readiness.

        Raises:
            StoreUnavailable: The folder cannot be used.
        """
        if self._trouble is not None:
            raise StoreUnavailable(
                "The folder of the prompts cannot be used.", details={"reason": self._trouble}
            )

    async def look(self, *, first: bool = False) -> None:
        """Index what changed; trouble is logged and never raised.

        Args:
            first: The first look reads every file, so it may take any time; no line tells of each prompt.
        """
        try:
            looking = self._indexer.reconcile()
            changed = await (looking if first else self._answered(looking))
        except StoreUnavailable as error:
            self._away(str(error.details.get("reason", error.message)))
        except Exception as error:  # one change that fails must not end the watching
            self._away(type(error).__name__)
        else:
            self._back()
            for entry in () if first else changed:
                facts = {
                    "outcome": entry.state,
                    "prompt": entry.path,
                    "problem": without_words(entry.error),
                }
                self._observer.note("prompt indexed", **facts)
        self._tell_faults()

    async def _answered(self, looking: Awaitable[Sequence[PromptEntry]]) -> Sequence[PromptEntry]:
        """A disk that does not answer cannot be asked again before it does, but it is told of meanwhile."""
        task = asyncio.ensure_future(looking)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._silent_s)
            if not done:
                self._away("it does not answer")
            return await task
        finally:
            task.cancel()

    def _away(self, reason: str) -> None:
        if self._trouble is None:
            self._observer.count({"PromptFolderOutages": 1})
        if self._trouble != reason:
            facts = {"folder": str(self._root), "reason": reason}
            self._observer.warn("prompt folder unavailable, last good prompts are served", **facts)
        self._trouble = reason

    def _back(self) -> None:
        if self._trouble is not None:
            self._observer.note("prompt folder available again", folder=str(self._root))
        self._trouble = None

    def _tell_faults(self) -> None:
        faults = dict(self._faults())
        for path, reason in faults.items():
            if self._known_faults.get(path) != reason:
                self._observer.warn("prompt file not read", prompt=path, reason=reason)
        for path in self._known_faults.keys() - faults.keys():
            self._observer.note("prompt file no longer at fault", prompt=path)
        self._known_faults = faults


async def keep_indexed(
    root: Path,
    indexer: PromptIndexer,
    stop: asyncio.Event,
    observer: WatchObserver,
    *,
    every_s: float = EVERY_S,
    watch: FolderWatch | None = None,
) -> None:
    """Index the folder, and every change of it until `stop` is set.

    Args:
        root: The folder.
        indexer: Keeps the index.
        stop: Ends the watching.
        observer: Logs and metrics.
        every_s: Time between two looks; ten times as long as a look takes if that is more.
        watch: What looks; others may ask it how the folder is.
    """
    watch = watch or FolderWatch(root, indexer, observer)
    while not stop.is_set():
        began = time.monotonic()
        await watch.look()
        rest = max(every_s, _MOST_OF_THE_TIME * (time.monotonic() - began))
        try:
            await asyncio.wait_for(stop.wait(), rest)
        except TimeoutError:
            continue
