"""Commands about what is served: list, show, history, diff, label, rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from llm_gateway.api.prompts import PromptMetadata, PromptSummary
from llm_gateway.entrypoints.command_line.output import say, show_diff, show_json, show_table
from llm_gateway.entrypoints.command_line.prompts import AsJson
from llm_gateway.entrypoints.command_line.stores import PromptStores
from llm_gateway.errors import InvalidParameter, PromptNotFound
from llm_gateway.formats import to_iso
from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision, own_version
from llm_gateway.prompts.catalogue.labels import (
    LabelMove,
    before_last_move,
    check_label,
    moved,
    shares_of,
    written,
)
from llm_gateway.prompts.catalogue.listing import find_entry
from llm_gateway.prompts.catalogue.shares import Labels, Shares
from llm_gateway.prompts.files.path import check_directory

PromptPath = Annotated[str, typer.Argument(help="Path of the prompt.", show_default=False)]
_PAGE = 200


def list_prompts(
    context: typer.Context,
    directory: Annotated[str, typer.Argument(help="Only prompts below it.")] = "",
    as_json: AsJson = False,
) -> None:
    """List prompts: `llm-gateway list support`."""
    entries = asyncio.run(_all(_opened(context), check_directory(directory)))
    if as_json:
        show_json([PromptSummary.of(entry).model_dump(mode="json") for entry in entries])
        return
    show_table(
        ["prompt", "state", "version", "model", "needs"],
        [[e.path, e.state, e.version or "", e.model or "", ", ".join(e.required_variables)] for e in entries],
    )


def show(context: typer.Context, path: PromptPath, as_json: AsJson = False) -> None:
    """Describe one prompt: `llm-gateway show support/reply.prompt`."""

    async def described() -> PromptMetadata:
        stores = _opened(context)
        entry = await _entry(stores, path)
        labels, revisions = await stores.index.labels(entry.path), await stores.index.history(entry.path)
        return PromptMetadata.of_prompt(entry, labels, revisions)

    metadata = asyncio.run(described()).model_dump(mode="json")
    if as_json:
        show_json(metadata)
        return
    metadata["labels"] = {name: len(shares) for name, shares in metadata["labels"].items()}
    metadata["history"] = f"{len(metadata['history'])} versions, see `llm-gateway history {metadata['path']}`"
    show_table(["", ""], [[name, _text(value)] for name, value in metadata.items()])


def history(context: typer.Context, path: PromptPath, as_json: AsJson = False) -> None:
    """Versions and moves of labels, newest first: `llm-gateway history support/reply.prompt`."""

    async def told() -> tuple[PromptEntry, Sequence[Revision], Labels, Sequence[LabelMove]]:
        stores = _opened(context)
        entry = await _entry(stores, path)
        index = stores.index
        revisions, labels = await index.history(entry.path), await index.labels(entry.path)
        return entry, revisions, labels, await index.moves(entry.path)

    entry, revisions, labels, moves = asyncio.run(told())
    if as_json:
        show_json(
            {
                "path": entry.path,
                "current": entry.version,
                "labels": {name: [asdict(share) for share in s] for name, s in labels.shares.items()},
                "versions": [{**asdict(r), "made_at": to_iso(r.made_at)} for r in revisions],
                "moves": [{**asdict(move), "moved_at": to_iso(move.moved_at)} for move in moves],
            }
        )
        return
    rows = [(r.made_at, ["version", r.version, _what(r, entry, labels)]) for r in revisions]
    for move in moves:
        what = f"{written(move.before)} → {written(move.after)}, by {move.moved_by}"
        rows.append((move.moved_at, [f"label {move.label}", "", what]))
    rows.sort(key=lambda row: row[0], reverse=True)
    show_table(["when", "what", "version", ""], [[to_iso(when), *cells] for when, cells in rows])


def diff(
    context: typer.Context,
    path: PromptPath,
    before: Annotated[str | None, typer.Argument(help="A version; the one before the current.")] = None,
    after: Annotated[str | None, typer.Argument(help="A version; the current one.")] = None,
) -> None:
    """Compare two versions of a prompt's file: `llm-gateway diff support/reply.prompt`."""

    async def texts() -> list[tuple[str, str]]:
        stores = _opened(context)
        entry = await _entry(stores, path)
        good = [r.version for r in await stores.index.history(entry.path) if r.error is None]
        new = after or entry.version
        older = [v for v in good if new is None or own_version(v) != own_version(new)]
        old = before or next(iter(older), None)
        if new is None or old is None:
            raise PromptNotFound("There are no two versions to compare.", param="version")
        read = [await stores.files.read(entry.path, own_version(version)) for version in (old, new)]
        return [(v, data.decode(errors="replace")) for v, data in zip((old, new), read, strict=True)]

    (old, old_text), (new, new_text) = asyncio.run(texts())
    if not show_diff(old_text, new_text, f"{path} @ {old}", f"{path} @ {new}"):
        say("The file is the same in both.", "dim")


def label(
    context: typer.Context,
    path: PromptPath,
    name: Annotated[str, typer.Argument(metavar="LABEL", show_default=False)],
    version: Annotated[str | None, typer.Argument(help="A version, or `current`.")] = None,
    canary: Annotated[str | None, typer.Option(help="A second version, or `current`.")] = None,
    percent: Annotated[int | None, typer.Option(help="The canary's part of the callers.")] = None,
    remove: Annotated[bool, typer.Option(help="Take the label away.")] = False,
) -> None:
    """Point a label to a version: `llm-gateway label support/reply.prompt production current`.

    A canary: `llm-gateway label support/reply.prompt production STABLE --canary CURRENT --percent 10`.
    """
    if remove == (version is not None):
        raise InvalidParameter("Name a version, or take the label away by --remove.", param="version")

    async def moving() -> str:
        stores = _opened(context)
        entry = await _entry(stores, path)
        wanted = [v for v in (version, canary) if v is not None]
        versions = [await _known(stores, entry, v) for v in wanted]
        after = () if remove else shares_of(versions, percent)
        return await _move(stores, entry.path, check_label(name), after)

    say(asyncio.run(moving()), "green")


def rollback(
    context: typer.Context,
    path: PromptPath,
    name: Annotated[str, typer.Argument(metavar="LABEL")] = "production",
    to: Annotated[str | None, typer.Option(help="A version; what the label pointed to before.")] = None,
) -> None:
    """Move a label back to where it was: `llm-gateway rollback support/reply.prompt`."""

    async def moving() -> str:
        stores = _opened(context)
        entry = await _entry(stores, path)
        if to is not None:
            after = shares_of([await _known(stores, entry, to)])
        else:
            after = await before_last_move(stores.index, entry.path, check_label(name))
        return await _move(stores, entry.path, check_label(name), after)

    say(asyncio.run(moving()), "green")


def _opened(context: typer.Context) -> PromptStores:
    stores: PromptStores = context.obj.prompts()
    return stores


async def _all(stores: PromptStores, directory: str) -> list[PromptEntry]:
    await _current(stores)
    entries: list[PromptEntry] = []
    after: str | None = None
    while True:
        page = await stores.index.page(directory, _PAGE, after)
        entries += page.entries
        after = page.next_after
        if after is None:
            return entries


async def _entry(stores: PromptStores, path: str) -> PromptEntry:
    await _current(stores)
    return await find_entry(stores.index, path)


async def _current(stores: PromptStores) -> None:
    """A folder has no events that would have kept the index current."""
    if stores.indexer is not None:
        await stores.indexer.reconcile()


async def _known(stores: PromptStores, entry: PromptEntry, version: str) -> str:
    if version.lower() == "current" and entry.version is not None:
        return entry.version
    revision = await stores.index.revision(entry.path, version)
    if revision is None:
        raise PromptNotFound(
            f"'{entry.path}' has no such version; `llm-gateway history {entry.path}` lists them.",
            param="version",
        )
    if revision.error is not None:
        raise InvalidParameter(f"This version is broken: {revision.error}.", param="version")
    return version


async def _move(stores: PromptStores, path: str, name: str, after: Shares) -> str:
    move = await moved(stores.index, path, name, after, await stores.user(), datetime.now(UTC))
    return f"{path}: {name} moved from {written(move.before)} to {written(move.after)}"


def _what(revision: Revision, entry: PromptEntry, labels: Labels) -> str:
    if revision.error is not None:
        return f"broken: {revision.error}"
    marks = ["current"] if revision.version == entry.version else []
    for name, shares in sorted(labels.shares.items()):
        marks += [f"{name} {s.percent} %" for s in shares if s.version == revision.version]
    return ", ".join(marks)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
