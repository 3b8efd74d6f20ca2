"""One prompt file that cannot be read, for whatever reason, is broken; the others stay as they were."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from typing_extensions import override

from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.errors import StoreUnavailable
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.prompts.catalogue.assembly import Upload
from llm_gateway.prompts.catalogue.entries import PromptEntry
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.lint.lint import lint
from tests.fakes import NOON, InMemoryPromptFiles


class Panic(BaseException):
    """Stands for what a library written in Rust raises for a defect of its own."""


Panic.__name__ = "PanicException"
UNEXPECTED = [RecursionError, MemoryError, UnicodeError, ValueError, OverflowError, AttributeError, Panic]


class Unreadable(bytes):
    """A file over which the gateway fails in a way that it does not foresee."""

    failure: type[BaseException]

    @override
    def decode(self, *_: Any, **__: Any) -> str:
        raise self.failure("quotes the file: s3cr3t")


def unreadable(failure: type[BaseException]) -> Unreadable:
    made = Unreadable(b"Hello")
    made.failure = failure
    return made


class Shelf:
    """An index, its files, and the defects that are reported."""

    def __init__(self, files: InMemoryPromptFiles, index: InMemoryPromptIndex | None = None) -> None:
        self.index = index or InMemoryPromptIndex()
        self.defects: list[BaseException] = []
        self.indexer = PromptIndexer(files, self.index, 100_000, lambda: NOON, defect=self.defects.append)

    def entries(self) -> dict[str, PromptEntry]:
        return dict(asyncio.run(self.index.everything()))


@pytest.mark.parametrize("failure", UNEXPECTED)
@pytest.mark.parametrize("path", ["bad.md", "_bad.md"])
def test_a_file_over_which_the_gateway_fails_is_broken_and_the_others_are_indexed(
    failure: type[BaseException], path: str
) -> None:
    files = InMemoryPromptFiles()
    files.upload("good.md", b"Hello {{ name }}")
    files.upload("includes.md", b'{% include "_bad.md" %}')
    files.upload(path, unreadable(failure))
    shelf = Shelf(files)
    asyncio.run(shelf.indexer.reconcile())
    entries = shelf.entries()
    assert entries["good.md"].state == "ok"
    broken = entries["bad.md" if path == "bad.md" else "includes.md"]
    assert broken.state == "broken"
    assert failure.__name__ in str(broken.error)
    assert "s3cr3t" not in str(broken.error)
    assert [type(defect) for defect in shelf.defects] == [failure]


def test_the_last_good_version_of_such_a_file_stays_in_service() -> None:
    files = InMemoryPromptFiles()
    good = files.upload("a.md", b"Hello")
    files.upload("a.md", unreadable(RecursionError))
    shelf = Shelf(files)
    ((outcome, entry),) = asyncio.run(shelf.indexer.index("a.md", "01"))
    assert (outcome, entry.version) == ("broken", good)


@pytest.mark.parametrize("failure", UNEXPECTED)
def test_lint_reports_such_a_file(failure: type[BaseException]) -> None:
    (finding,) = lint("a.md", {"a.md": unreadable(failure)}, ModelCatalogue.packaged())
    assert (finding.code, finding.severity, finding.line) == ("broken-file", "error", None)
    assert "s3cr3t" not in finding.message


class OneRefused(InMemoryPromptIndex):
    """A store that refuses one path."""

    @override
    async def stamp(self, path: str) -> Any:
        if path == "b.md":
            raise StoreUnavailable("No.")
        return await super().stamp(path)


def test_a_path_that_the_store_refuses_is_reported_after_the_others_are_written() -> None:
    files = InMemoryPromptFiles()
    for name in ("a.md", "b.md", "c.md"):
        files.upload(name, b"Hello")
    shelf = Shelf(files, OneRefused())
    with pytest.raises(StoreUnavailable):
        asyncio.run(shelf.indexer.reconcile())
    assert sorted(shelf.entries()) == ["a.md", "c.md"]
    assert asyncio.run(shelf.index.generation()) == 1


def test_versions_that_are_all_large_and_broken_are_not_all_read() -> None:
    files = InMemoryPromptFiles()
    files.upload("a.md", b"Hello")
    for _ in range(10):
        files.upload("a.md", b"{##}" * 6_600 + b"{% if %}")
    ((_, entry),) = asyncio.run(Shelf(files).indexer.index("a.md", "01"))
    assert (entry.state, entry.version) == ("broken", None)


def test_what_no_index_can_hold_is_left_out_and_said() -> None:
    class Odd(InMemoryPromptFiles):
        @override
        async def newest(self, path: str, max_bytes: int) -> Upload | None:
            upload = await super().newest(path, max_bytes)
            return upload and Upload(upload.version, "\ud800", 1, NOON, upload.data)

    files = Odd()
    version = files.upload("a.md", b"---\ndescription: d\n---\nHello")
    files.upload("b.md", b"Hello")
    shelf = Shelf(files)
    asyncio.run(shelf.indexer.reconcile())
    entry = shelf.entries()["a.md"]
    assert (entry.state, entry.version) == ("broken", version)
    assert "no text that can be stored" in str(entry.error)
