"""What every prompt index promises: the fake, DynamoDB by moto, DynamoDB by the local AWS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from moto import mock_aws

from llm_gateway.models import ModelOptions, PromptEntry
from llm_gateway.prompts.indexing import WritablePromptIndex, padded
from llm_gateway.stores.prompt_table import DynamoPromptIndex
from local_aws.emulator import Emulator
from tests.contract.tables import client, create_table
from tests.fakes import NOON, InMemoryPromptIndex

LATER, EARLIER = padded("0055AED6DCD90281E6"), padded("0055AED6DCD90281E5")


@pytest.fixture(params=["memory", "moto", "local-aws"])
def index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritablePromptIndex]:
    if request.param == "memory":
        yield InMemoryPromptIndex()
        return
    if request.param == "moto":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with mock_aws():
            dynamodb = client("dynamodb", None)
            yield DynamoPromptIndex(dynamodb, create_table(dynamodb, "PromptTable"))
        return
    emulator: Emulator = request.getfixturevalue("emulator")
    dynamodb = client("dynamodb", emulator)
    yield DynamoPromptIndex(dynamodb, create_table(dynamodb, "PromptTable"))


def entry(path: str, version: str = "v1") -> PromptEntry:
    return PromptEntry(
        path=path, version=version, uploaded_version=version, etag="e", size_bytes=12, last_modified=NOON
    )


def put(index: WritablePromptIndex, *paths: str) -> None:
    for path in paths:
        assert asyncio.run(index.put(entry(path), EARLIER))


def test_an_entry_comes_back_as_it_was_written(index: WritablePromptIndex) -> None:
    full = PromptEntry(
        path="support/grüße & more.prompt",
        version="096fKKXTRTtl3on89fVO.nfljtsv6qko",
        uploaded_version="newer",
        etag="b21b84d653bb07b05b1e6b33684dc11b",
        size_bytes=189,
        last_modified=NOON,
        state="broken",
        required_variables=("user.name", "ticket"),
        description="Says 'hello'.",
        model="openai/gpt-4o",
        parameters=ModelOptions(temperature=0.3, max_tokens=9, stop=("END",), output_format="json"),
        input_schema={"type": "object", "properties": {"n": {"type": "number", "default": 0.5}}},
        error="line 3: broken",
        warnings=("unknown key 'x' is ignored",),
    )
    asyncio.run(index.put(full, EARLIER))
    assert list(asyncio.run(index.find(full.path))) == [full]


def test_nothing_is_found_where_nothing_is(index: WritablePromptIndex) -> None:
    assert list(asyncio.run(index.find("absent.prompt"))) == []
    assert list(asyncio.run(index.find("absent"))) == []
    assert asyncio.run(index.page("", 10, None)).entries == []


def test_a_path_without_extension_finds_every_file_of_that_stem_and_no_other(
    index: WritablePromptIndex,
) -> None:
    put(index, "a/reply.md", "a/reply.prompt", "a/reply.final.md", "a/reply2.md", "a/repl.md")
    found = asyncio.run(index.find("a/reply"))
    assert [e.path for e in found] == ["a/reply.md", "a/reply.prompt"]


def test_an_older_or_equal_sequencer_changes_nothing(index: WritablePromptIndex) -> None:
    assert asyncio.run(index.put(entry("p.md", "new"), LATER))
    assert not asyncio.run(index.put(entry("p.md", "old"), EARLIER))
    assert not asyncio.run(index.put(entry("p.md", "same"), LATER))
    assert [e.version for e in asyncio.run(index.find("p.md"))] == ["new"]


def test_a_deleted_entry_is_neither_found_nor_listed_but_still_guards_its_path(
    index: WritablePromptIndex,
) -> None:
    put(index, "a.md", "c.md")
    asyncio.run(index.put(replace(entry("b.md"), state="deleted", version=None), LATER))
    assert list(asyncio.run(index.find("b.md"))) == []
    assert list(asyncio.run(index.find("b"))) == []
    assert [e.path for e in asyncio.run(index.page("", 10, None)).entries] == ["a.md", "c.md"]
    assert not asyncio.run(index.put(entry("b.md"), EARLIER))


def test_a_directory_lists_what_is_below_it_and_nothing_that_only_looks_like_it(
    index: WritablePromptIndex,
) -> None:
    put(index, "support/a.md", "support/deep/b.md", "supporter/c.md", "support.md")
    page = asyncio.run(index.page("support", 10, None))
    assert [e.path for e in page.entries] == ["support/a.md", "support/deep/b.md"]
    assert page.next_after is None


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7])
def test_pages_put_together_are_the_whole_list_in_order(index: WritablePromptIndex, limit: int) -> None:
    paths = [f"p{n}.md" for n in range(6)]
    put(index, *reversed(paths))
    asyncio.run(index.put(replace(entry("p2x.md"), state="deleted", version=None), EARLIER))
    seen: list[str] = []
    after: str | None = None
    for _ in range(10):
        page = asyncio.run(index.page("", limit, after))
        assert len(page.entries) <= limit
        seen += [e.path for e in page.entries]
        after = page.next_after
        if after is None:
            break
    assert seen == paths


def test_the_generation_grows_with_every_bump(index: WritablePromptIndex) -> None:
    generations = []
    for _ in range(3):
        generations.append(asyncio.run(index.generation()))
        asyncio.run(index.bump_generation())
    assert generations == sorted(set(generations))


def test_a_repair_leaves_the_sequencer_so_that_late_events_still_count(index: WritablePromptIndex) -> None:
    put(index, "p.md")
    assert asyncio.run(index.repair(entry("p.md", "repaired"), EARLIER))
    assert [e.version for e in asyncio.run(index.find("p.md"))] == ["repaired"]
    assert not asyncio.run(index.put(entry("p.md", "again"), EARLIER))
    assert asyncio.run(index.put(entry("p.md", "late"), LATER))


def test_a_repair_gives_way_to_an_event_that_came_meanwhile(index: WritablePromptIndex) -> None:
    put(index, "p.md")
    asyncio.run(index.put(entry("p.md", "event"), LATER))
    assert not asyncio.run(index.repair(entry("p.md", "repaired"), EARLIER))
    assert not asyncio.run(index.repair(entry("p.md", "repaired"), None))
    assert [e.version for e in asyncio.run(index.find("p.md"))] == ["event"]


def test_a_repair_of_a_missing_entry_gives_way_to_any_event(index: WritablePromptIndex) -> None:
    assert asyncio.run(index.repair(entry("p.md", "repaired"), None))
    assert asyncio.run(index.put(entry("p.md", "event"), padded("0")))


def test_everything_is_every_entry_with_its_sequencer_the_deleted_ones_too(
    index: WritablePromptIndex,
) -> None:
    put(index, "a.md", "b/c.md")
    gone = replace(entry("gone.md"), state="deleted", version=None)
    asyncio.run(index.put(gone, LATER))
    everything = asyncio.run(index.everything())
    assert everything["gone.md"] == (gone, LATER)
    assert {path: sequencer for path, (_, sequencer) in everything.items()} == {
        "a.md": EARLIER, "b/c.md": EARLIER, "gone.md": LATER,
    }  # fmt: skip
