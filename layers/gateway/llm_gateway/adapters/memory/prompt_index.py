"""The prompt index in this process's memory: for one process that sees every change itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_gateway.prompts.catalogue.catalogue import EntryPage
from llm_gateway.prompts.catalogue.entries import PromptEntry, PromptState, Revision, Stamp
from llm_gateway.prompts.catalogue.labels import LabelMove
from llm_gateway.prompts.catalogue.shares import Labels
from llm_gateway.prompts.files.path import EXTENSIONS, has_extension


class InMemoryPromptIndex:
    """Reads and writes entries; see PromptIndex, WritablePromptIndex and LabelStore."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[PromptEntry, Stamp]] = {}
        self._generation = 0
        self._revisions: dict[str, dict[str, Revision]] = {}
        self._labels: dict[str, Labels] = {}
        self._moves: list[LabelMove] = []
        self._includers: dict[str, set[str]] = {}

    def paths(self, state: PromptState) -> list[str]:
        """The prompts that are in a state."""
        return sorted(path for path, (entry, _) in self._entries.items() if entry.state == state)

    async def generation(self) -> int:
        """See PromptIndex.generation."""
        return self._generation

    async def find(self, path: str) -> Sequence[PromptEntry]:
        """See PromptIndex.find."""
        names = [path] if has_extension(path) else sorted(path + extension for extension in EXTENSIONS)
        return [entry for name in names for entry in self._live(name)]

    async def page(self, directory: str, limit: int, after: str | None) -> EntryPage:
        """See PromptIndex.page."""
        below = f"{directory}/" if directory else ""
        paths = [path for path in sorted(self._entries) if path.startswith(below) and path > (after or "")]
        entries = [entry for path in paths for entry in self._live(path)]
        return EntryPage(entries[:limit], entries[limit - 1].path if len(entries) > limit else None)

    async def stamp(self, path: str) -> tuple[PromptEntry, Stamp] | None:
        """See WritablePromptIndex.stamp."""
        return self._entries.get(path)

    async def put(self, entry: PromptEntry, stamp: Stamp, seen: Stamp | None) -> bool:
        """See WritablePromptIndex.put."""
        _, known = self._entries.get(entry.path, (None, None))
        if known == seen:
            self._entries[entry.path] = (entry, stamp)
        return known == seen

    async def everything(self) -> Mapping[str, PromptEntry]:
        """See WritablePromptIndex.everything."""
        return {path: entry for path, (entry, _) in self._entries.items()}

    async def bump_generation(self) -> None:
        """See WritablePromptIndex.bump_generation."""
        self._generation += 1

    async def revision(self, path: str, version: str) -> Revision | None:
        """See PromptIndex.revision."""
        return self._revisions.get(path, {}).get(version)

    async def history(self, path: str) -> Sequence[Revision]:
        """See PromptIndex.history."""
        revisions = self._revisions.get(path, {}).values()
        return sorted(revisions, key=lambda revision: revision.made_at, reverse=True)

    async def add_revision(self, path: str, revision: Revision) -> None:
        """See WritablePromptIndex.add_revision."""
        self._revisions.setdefault(path, {}).setdefault(revision.version, revision)

    async def add_includer(self, partial: str, path: str) -> None:
        """See WritablePromptIndex.add_includer."""
        self._includers.setdefault(partial, set()).add(path)

    async def includers(self, partial: str) -> Sequence[str]:
        """See WritablePromptIndex.includers."""
        return sorted(self._includers.get(partial, ()))

    async def labels(self, path: str) -> Labels:
        """See PromptIndex.labels."""
        return self._labels.get(path, Labels())

    async def move_label(self, move: LabelMove, seen: Labels) -> bool:
        """See LabelStore.move_label."""
        if (await self.labels(move.path)).revision != seen.revision:
            return False
        self._labels[move.path] = move.applied_to(seen)
        self._moves.append(move)
        self._generation += 1
        return True

    async def moves(self, path: str) -> Sequence[LabelMove]:
        """See LabelStore.moves."""
        return [move for move in reversed(self._moves) if move.path == path]

    def _live(self, path: str) -> list[PromptEntry]:
        entry, _ = self._entries.get(path, (None, None))
        return [] if entry is None or entry.state == "deleted" else [entry]
