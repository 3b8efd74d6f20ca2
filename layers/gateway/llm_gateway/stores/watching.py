"""Hot reload: a folder of prompts is followed, and every change indexed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Protocol

from llm_gateway.prompts.indexing import PromptIndexer
from llm_gateway.prompts.path import is_prompt_file

_STEP_MS = 50
_AGAIN_S = 0.5


class WatchObserver(Protocol):
    """Told of what changed."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...


async def keep_indexed(
    root: Path, indexer: PromptIndexer, stop: asyncio.Event, observer: WatchObserver
) -> None:
    """Index the folder, and every change of it until `stop` is set.

    A changed folder (renamed, deleted, unpacked) is not told file by file on every platform, so then
    everything is compared.
    """
    await indexer.reconcile()
    while not stop.is_set():
        try:
            await _follow(root.resolve(), indexer, stop, observer)
        except Exception as error:  # a name that is no UTF-8 ends the watching of all the others
            observer.note("prompts watched anew", error=type(error).__name__)
            await asyncio.sleep(_AGAIN_S)
            await _index({"."}, indexer, observer)


async def _follow(top: Path, indexer: PromptIndexer, stop: asyncio.Event, observer: WatchObserver) -> None:
    from watchfiles import awatch

    watching = awatch(top, stop_event=stop, step=_STEP_MS, debounce=_STEP_MS * 4, recursive=True)
    async for changes in watching:
        paths = {Path(changed).relative_to(top).as_posix() for _, changed in changes}
        visible = {path for path in paths if not any(part.startswith(".") for part in path.split("/"))}
        await _index(visible, indexer, observer)


async def _index(paths: set[str], indexer: PromptIndexer, observer: WatchObserver) -> None:
    for path in sorted(path for path in paths if is_prompt_file(path)):
        try:
            for outcome, entry in await indexer.index(path, f"{time.time_ns():020X}"):
                observer.note("prompt indexed", outcome=outcome, prompt=entry.path, problem=entry.error)
        except Exception as error:  # one file that fails must not stop the others
            observer.note("prompts not indexed", error=type(error).__name__)
    try:
        if any(not is_prompt_file(path) for path in paths):
            for entry in await indexer.reconcile():
                observer.note("prompt indexed", outcome=entry.state, prompt=entry.path, problem=entry.error)
    except Exception as error:  # one change that fails must not end the watching
        observer.note("prompts not indexed", error=type(error).__name__)
