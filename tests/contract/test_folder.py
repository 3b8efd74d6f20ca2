"""Prompts from a folder: hot reload, last known good, and what outlives a restart."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm_gateway.adapters.local.prompt_files import FolderPromptFiles
from llm_gateway.adapters.local.prompt_index import FolderPromptIndex
from llm_gateway.adapters.local.prompt_watcher import keep_indexed
from llm_gateway.errors import GatewayError, PromptNotFound, StoreUnavailable
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.catalogue.labels import LabelMove, shares_of
from llm_gateway.prompts.catalogue.shares import Labels
from tests.fakes import NOON, RecordingObserver

PATIENCE_S = 15.0


class Process:
    """One process that serves the prompts of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files, self.index = FolderPromptFiles(root), FolderPromptIndex(root)
        self.indexer = PromptIndexer(self.files, self.index, 10_000, lambda: NOON)
        self.observer = RecordingObserver()
        self.catalogue = Catalogue(self.index, self.files, ttl_s=0, cache_bytes=10_000, clock=time.monotonic)

    async def read(self, path: str, version: str | None = None, label: str | None = None) -> str:
        (message,) = (await self.catalogue.load(path, version, label)).render({}, 1_000)
        return message.content

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(keep_indexed(self.root, self.indexer, stop, self.observer))
        await asyncio.sleep(0.4)  # until the watcher is in place
        yield
        stop.set()
        await task

    async def serves(self, path: str, text: str | None) -> None:
        """Wait until this is served; None: nothing is."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                found: str | None = await self.read(path)
            except GatewayError:
                found = None
            if found == text:
                return
            assert time.monotonic() < deadline, (path, found)
            await asyncio.sleep(0.02)


def modified(root: Path) -> None:
    (root / "a.md").write_text("new")


def renamed_over(root: Path) -> None:
    (root / ".a.md.swp").write_text("new")
    (root / ".a.md.swp").replace(root / "a.md")


def removed_and_made_again(root: Path) -> None:
    (root / "a.md").unlink()
    time.sleep(0.3)
    (root / "a.md").write_text("new")


@pytest.mark.parametrize("edit", [modified, renamed_over, removed_and_made_again])
def test_an_edit_is_served_however_the_editor_writes_it(tmp_path: Path, edit: Callable[[Path], None]) -> None:
    async def scenario() -> None:
        (tmp_path / "a.md").write_text("old")
        process = Process(tmp_path)
        async with process.watching():
            await process.serves("a.md", "old")
            await asyncio.to_thread(edit, tmp_path)
            await process.serves("a.md", "new")

    asyncio.run(scenario())


def test_files_and_folders_come_move_and_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = Process(tmp_path)
        async with process.watching():
            (tmp_path / "support").mkdir()
            (tmp_path / "support" / "reply.md").write_text("hello")
            await process.serves("support/reply", "hello")
            (tmp_path / "support").rename(tmp_path / "service")
            await process.serves("service/reply", "hello")
            await process.serves("support/reply", None)
            (tmp_path / "service" / "reply.md").unlink()
            await process.serves("service/reply", None)

    asyncio.run(scenario())


def test_a_file_whose_name_is_no_text_does_not_end_the_watching(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "a.md").write_text("old")
        process = Process(tmp_path)
        async with process.watching():
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.md")).write_text("x")
            (tmp_path / "a.md").write_text("new")
            await process.serves("a.md", "new")

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


def test_an_edited_partial_is_served_and_a_broken_file_leaves_the_last_good_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "_tone.md").write_text("Be kind.")
        (tmp_path / "a.md").write_text('{% include "_tone.md" %}')
        process = Process(tmp_path)
        async with process.watching():
            (tmp_path / "_tone.md").write_text("Be brief.")
            await process.serves("a.md", "Be brief.")
            (tmp_path / "a.md").write_text("{% if %}")
            (tmp_path / "b.md").write_text("next")
            await process.serves("b.md", "next")
            while (await process.index.find("a.md"))[0].state != "broken":
                await asyncio.sleep(0.02)
            await process.serves("a.md", "Be brief.")
            (tmp_path / "a.md").write_text("mended")
            await process.serves("a.md", "mended")

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


def test_versions_labels_and_the_last_good_version_outlive_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = Process(tmp_path)
        old = await first.files.upload("a.md", b"old")
        await first.indexer.reconcile()
        move = LabelMove("a.md", "production", (), shares_of([old]), NOON, "ada")
        assert await first.index.move_label(move, Labels())
        (tmp_path / "a.md").write_text("{% if %}")
        second = Process(tmp_path)
        await second.indexer.reconcile()
        assert await second.read("a.md") == "old"
        (tmp_path / "a.md").write_text("new")
        await second.indexer.reconcile()
        assert await second.read("a.md") == "new"
        assert (
            await second.read("a.md", version=old) == await second.read("a.md", label="production") == "old"
        )
        assert [move.moved_by for move in await second.index.moves("a.md")] == ["ada"]
        assert old in [revision.version for revision in await second.index.history("a.md")]

    asyncio.run(scenario())


def test_a_process_notices_the_label_that_another_moves(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, other = Process(tmp_path), Process(tmp_path)
        old = await one.files.upload("a.md", b"old")
        for process in (one, other):
            await process.indexer.reconcile()
        with pytest.raises(PromptNotFound):
            await other.read("a.md", label="production")
        move = LabelMove("a.md", "production", (), shares_of([old]), NOON, "ada")
        assert await one.index.move_label(move, Labels())
        assert await other.read("a.md", label="production") == "old"

    asyncio.run(scenario())


def test_of_many_processes_that_move_a_label_at_once_one_wins(tmp_path: Path) -> None:
    def move(number: int) -> bool:
        step = LabelMove("a.md", "production", (), shares_of([f"v{number}"]), NOON, "ada")
        return asyncio.run(FolderPromptIndex(tmp_path).move_label(step, Labels()))

    async def race() -> list[bool]:
        return list(await asyncio.gather(*(asyncio.to_thread(move, n) for n in range(8))))

    assert asyncio.run(race()).count(True) == 1


def test_hidden_files_other_files_and_links_that_lead_out_are_no_prompts(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder in (outside, root / ".git", root / "deep"):
        folder.mkdir(parents=True)
    (outside / "secret.md").write_text("secret")
    (root / ".git" / "a.md").write_text("hidden")
    (root / ".b.md").write_text("hidden")
    (root / "logo.png").write_bytes(b"\x89PNG")
    (root / "deep" / "c.md").write_text("prompt")
    (root / "link.md").symlink_to(outside / "secret.md")
    files = FolderPromptFiles(root)
    assert list(asyncio.run(files.current())) == ["deep/c.md"]
    assert asyncio.run(files.newest("link.md", 100)) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_serves_prompts_and_refuses_to_move_labels(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    tmp_path.chmod(0o555)
    _check_unwritable(tmp_path)


def test_a_folder_whose_state_cannot_be_written_serves_prompts_and_refuses_to_move_labels(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.md").write_text("text")
    (tmp_path / ".llm-gateway").write_text("a file where the folder would be")
    _check_unwritable(tmp_path)


def _check_unwritable(root: Path) -> None:
    async def scenario() -> None:
        process = Process(root)
        await process.indexer.reconcile()
        version = (await process.index.history("a.md"))[0].version
        assert await process.read("a.md") == await process.read("a.md", version) == "text"
        with pytest.raises(StoreUnavailable, match="read-only"):
            await process.index.move_label(
                LabelMove("a.md", "production", (), shares_of([version]), NOON, "ada"), Labels()
            )

    asyncio.run(scenario())


def test_half_a_line_of_the_archive_hides_no_other_version(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await FolderPromptFiles(tmp_path).upload("a.md", b"old")
        (seen,) = tmp_path.rglob("seen.jsonl")
        seen.write_bytes(seen.read_bytes() + b'{"version": "0\n[]\n')
        files = FolderPromptFiles(tmp_path)
        second = await files.upload("a.md", b"new")
        assert [u.version async for u in files.earlier("a.md", second, 1_000)] == [first]

    asyncio.run(scenario())
