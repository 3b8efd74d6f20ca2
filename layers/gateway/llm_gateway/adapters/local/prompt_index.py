"""The index of a folder of prompts: entries in memory, history and labels beside the prompts."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import override

from llm_gateway.adapters.local.local_file import append_line, read_whole
from llm_gateway.adapters.local.prompt_archive import STATE, write_whole
from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.errors import StoreUnavailable
from llm_gateway.prompts.catalogue.entries import Revision
from llm_gateway.prompts.catalogue.labels import LabelMove
from llm_gateway.prompts.catalogue.shares import Labels

_MOST_BYTES = 64_000_000


@dataclass(slots=True)
class _Labelled:
    labels: dict[str, Labels] = field(default_factory=dict)
    moves: list[LabelMove] = field(default_factory=list)


class FolderPromptIndex(InMemoryPromptIndex):
    """Reads and writes entries; see PromptIndex, WritablePromptIndex and LabelStore.

    Several processes may work on one folder: each keeps its own entries, labels are shared.

    Args:
        root: The top of the prompts; it may be, or lie below, a link that is replaced.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._state = root.absolute() / STATE
        self._changed: int | None = None
        self._last: _Labelled | None = None
        self._fault: str | None = None

    @override
    async def generation(self) -> int:
        """See PromptIndex.generation; grows as well when another process moves a label."""
        changed = await asyncio.to_thread(self._labels_changed)
        if changed != self._changed:
            self._changed = changed
            await self.bump_generation()
        return await super().generation()

    @override
    async def revision(self, path: str, version: str) -> Revision | None:
        """See PromptIndex.revision."""
        await self._remember(path)
        return await super().revision(path, version)

    @override
    async def history(self, path: str) -> Sequence[Revision]:
        """See PromptIndex.history."""
        await self._remember(path)
        return await super().history(path)

    @override
    async def add_revision(self, path: str, revision: Revision) -> None:
        """See WritablePromptIndex.add_revision; kept in memory where the folder is read-only."""
        if await self.revision(path, revision.version) is not None:
            return
        await super().add_revision(path, revision)
        await asyncio.to_thread(self._note, path, revision)

    @override
    async def labels(self, path: str) -> Labels:
        """See PromptIndex.labels."""
        return (await asyncio.to_thread(self._read)).labels.get(path, Labels())

    @override
    async def move_label(self, move: LabelMove, seen: Labels) -> bool:
        """See LabelStore.move_label.

        Raises:
            StoreUnavailable: The folder is read-only.
        """
        if not await asyncio.to_thread(self._move, move, seen):
            return False
        await self.bump_generation()
        return True

    @override
    async def moves(self, path: str) -> Sequence[LabelMove]:
        """See LabelStore.moves."""
        return [move for move in reversed((await asyncio.to_thread(self._read)).moves) if move.path == path]

    @property
    def _file(self) -> Path:
        return self._state / "labels.json"

    def _history(self, path: str) -> Path:
        return self._state / "versions" / path / "revisions.jsonl"

    @property
    def faults(self) -> Mapping[str, str]:
        """The file of the labels with the reason why it cannot be read, if so."""
        return {} if self._fault is None else {f"{STATE}/{self._file.name}": self._fault}

    def _labels_changed(self) -> int | None:
        try:
            changed: int | None = self._file.stat().st_mtime_ns
        except OSError:
            changed = None
        if changed != self._changed or self._last is None:
            with suppress(StoreUnavailable):
                self._read()
        return changed

    def _read(self) -> _Labelled:
        """The labels on disk; those that were read last if they are away or damaged.

        Raises:
            StoreUnavailable: They are damaged, and were never read.
        """
        self._fault = self._renew()
        if self._last is None:
            raise _damaged()
        return deepcopy(self._last)

    def _renew(self) -> str | None:
        """Take over the labels on disk; why they cannot be read, or None."""
        try:
            self._last = _LABELLED.validate_json(read_whole(self._file, _MOST_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            self._last = self._last or _Labelled()
        except OSError as error:
            return error.strerror or type(error).__name__
        except ValueError:
            return "it is damaged; restore or delete it"
        return None

    async def _remember(self, path: str) -> None:
        """What this or another process wrote down of a prompt's versions."""
        for revision in await asyncio.to_thread(self._noted, path):
            self._revisions.setdefault(path, {}).setdefault(revision.version, revision)

    def _noted(self, path: str) -> list[Revision]:
        try:
            lines = read_whole(self._history(path), _MOST_BYTES).splitlines()
        except OSError:
            return []
        found: list[Revision] = []
        for line in lines:
            with suppress(ValueError):  # a process died while it wrote the line
                found.append(_REVISION.validate_json(line))
        return found

    def _note(self, path: str, revision: Revision) -> None:
        try:
            file = self._history(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            append_line(file, _REVISION.dump_json(revision))
        except OSError:
            return

    def _move(self, move: LabelMove, seen: Labels) -> bool:
        try:
            with self._locked():
                state = self._read()
                if self._fault is not None:  # the last good labels are for reading alone
                    raise _damaged()
                if state.labels.get(move.path, Labels()).revision != seen.revision:
                    return False
                state.labels[move.path] = move.applied_to(seen)
                state.moves.append(move)
                write_whole(self._file, _LABELLED.dump_json(state))
                self._last = state
        except OSError as error:
            raise StoreUnavailable(
                "The folder is read-only; labels can only move where it can be written to."
            ) from error
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._state.mkdir(parents=True, exist_ok=True)
        # Opened for both directions and without waiting, a pipe in its place stops nothing.
        lock = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _damaged() -> StoreUnavailable:
    return StoreUnavailable(f"'{STATE}/labels.json' cannot be read; restore it or delete it.")


_LABELLED = TypeAdapter(_Labelled)
_REVISION = TypeAdapter(Revision)
