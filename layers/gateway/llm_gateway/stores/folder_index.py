"""The index of a folder of prompts: entries in memory, history and labels beside the prompts."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import override

from llm_gateway.errors import StoreUnavailable
from llm_gateway.models import Labels, Revision
from llm_gateway.prompts.labels import LabelMove
from llm_gateway.stores.folder import STATE
from llm_gateway.stores.memory import InMemoryPromptIndex


@dataclass(slots=True)
class _Labelled:
    labels: dict[str, Labels] = field(default_factory=dict)
    moves: list[LabelMove] = field(default_factory=list)


class FolderPromptIndex(InMemoryPromptIndex):
    """Reads and writes entries; see PromptIndex, WritablePromptIndex and LabelStore.

    Several processes may work on one folder: each keeps its own entries, labels are shared.

    Args:
        root: The top of the prompts.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._state = root.resolve() / STATE
        self._changed: int | None = None

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

    def _labels_changed(self) -> int | None:
        try:
            return self._file.stat().st_mtime_ns
        except OSError:
            return None

    def _read(self) -> _Labelled:
        try:
            return _LABELLED.validate_json(self._file.read_bytes())
        except OSError:
            return _Labelled()

    async def _remember(self, path: str) -> None:
        """What this or another process wrote down of a prompt's versions."""
        for revision in await asyncio.to_thread(self._noted, path):
            self._revisions.setdefault(path, {}).setdefault(revision.version, revision)

    def _noted(self, path: str) -> list[Revision]:
        try:
            lines = self._history(path).read_bytes().splitlines()
        except OSError:
            return []
        found: list[Revision] = []
        for line in lines:
            with suppress(ValueError):  # half a line that a full disk left must not hide the others
                found.append(_REVISION.validate_json(line))
        return found

    def _note(self, path: str, revision: Revision) -> None:
        try:
            file = self._history(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as opened:
                opened.write(_REVISION.dump_json(revision) + b"\n")
        except OSError:
            return

    def _move(self, move: LabelMove, seen: Labels) -> bool:
        try:
            with self._locked():
                state = self._read()
                if state.labels.get(move.path, Labels()).revision != seen.revision:
                    return False
                state.labels[move.path] = move.applied_to(seen)
                state.moves.append(move)
                temporary = self._file.with_suffix(".new")
                temporary.write_bytes(_LABELLED.dump_json(state))
                temporary.replace(self._file)
        except OSError as error:
            raise StoreUnavailable(
                "The folder is read-only; labels can only move where it can be written to."
            ) from error
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._state.mkdir(parents=True, exist_ok=True)
        with (self._state / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


_LABELLED = TypeAdapter(_Labelled)
_REVISION = TypeAdapter(Revision)
