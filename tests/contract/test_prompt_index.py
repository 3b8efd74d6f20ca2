"""What every prompt index promises: in memory, of a folder, DynamoDB by moto, DynamoDB by the local AWS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from moto import mock_aws

from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
from llm_gateway.adapters.local.prompt_index import FolderPromptIndex
from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.models.options import ModelOptions
from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision, Stamp
from llm_gateway.prompts.catalogue.indexing import WritablePromptIndex, padded
from llm_gateway.prompts.catalogue.labels import LabelMove, LabelStore, shares_of
from llm_gateway.prompts.catalogue.shares import Labels, Shares
from local_aws.emulator import Emulator
from tests.contract.tables import client, create_table
from tests.fakes import NOON

FIRST = Stamp(padded("0055AED6DCD90281E5"), 1)
SECOND = Stamp(padded("0055AED6DCD90281E6"), 2)


@pytest.fixture(params=["memory", "folder", "moto", "local-aws"])
def index(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[WritablePromptIndex]:
    if request.param in ("memory", "folder"):
        yield InMemoryPromptIndex() if request.param == "memory" else FolderPromptIndex(tmp_path)
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
        path=path, version=version, etag="e", size_bytes=12, last_modified=NOON, sources={path: version}
    )


def put(index: WritablePromptIndex, *paths: str) -> None:
    for path in paths:
        assert asyncio.run(index.put(entry(path), FIRST, None))


def test_an_entry_comes_back_as_it_was_written(index: WritablePromptIndex) -> None:
    full = PromptEntry(
        path="support/grüße & more.prompt",
        version="096fKKXTRTtl3on89fVO.nfljtsv6qko",
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
        partials={"_tone.md": "v7"},
        sources={"support/grüße & more.prompt": "v2", "_tone.md": None},
    )
    asyncio.run(index.put(full, FIRST, None))
    assert list(asyncio.run(index.find(full.path))) == [full]
    assert asyncio.run(index.stamp(full.path)) == (full, FIRST)


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


def test_an_entry_is_written_only_if_it_is_still_what_was_seen(index: WritablePromptIndex) -> None:
    assert asyncio.run(index.put(entry("p.md", "one"), FIRST, None))
    assert not asyncio.run(index.put(entry("p.md", "other"), FIRST, None))
    assert asyncio.run(index.put(entry("p.md", "two"), SECOND, FIRST))
    assert not asyncio.run(index.put(entry("p.md", "late"), SECOND, FIRST))
    assert [e.version for e in asyncio.run(index.find("p.md"))] == ["two"]
    assert asyncio.run(index.stamp("p.md")) == (entry("p.md", "two"), SECOND)


def test_a_repair_counts_as_a_write_although_its_sequencer_stays(index: WritablePromptIndex) -> None:
    put(index, "p.md")
    repair = Stamp(FIRST.sequencer, 2)
    assert asyncio.run(index.put(entry("p.md", "repaired"), repair, FIRST))
    assert not asyncio.run(index.put(entry("p.md", "slow"), SECOND, FIRST))
    assert [e.version for e in asyncio.run(index.find("p.md"))] == ["repaired"]


def test_of_many_writers_that_saw_the_same_one_wins(index: WritablePromptIndex) -> None:
    async def race() -> list[bool]:
        writers = (index.put(entry("p.md", f"v{n}"), SECOND, FIRST) for n in range(8))
        return list(await asyncio.gather(*writers))

    put(index, "p.md")
    assert asyncio.run(race()).count(True) == 1


def test_a_deleted_entry_is_neither_found_nor_listed_but_still_guards_its_path(
    index: WritablePromptIndex,
) -> None:
    put(index, "a.md", "c.md")
    asyncio.run(index.put(replace(entry("b.md"), state="deleted", version=None), SECOND, None))
    assert list(asyncio.run(index.find("b.md"))) == []
    assert list(asyncio.run(index.find("b"))) == []
    assert [e.path for e in asyncio.run(index.page("", 10, None)).entries] == ["a.md", "c.md"]
    assert not asyncio.run(index.put(entry("b.md"), FIRST, None))


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
    asyncio.run(index.put(replace(entry("p2x.md"), state="deleted", version=None), FIRST, None))
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


def test_a_path_that_was_never_written_has_no_stamp(index: WritablePromptIndex) -> None:
    assert asyncio.run(index.stamp("p.md")) is None


def test_everything_is_every_entry_the_deleted_ones_too(index: WritablePromptIndex) -> None:
    put(index, "a.md", "b/c.md")
    gone = replace(entry("gone.md"), state="deleted", version=None)
    asyncio.run(index.put(gone, SECOND, None))
    assert asyncio.run(index.everything()) == {
        "a.md": entry("a.md"), "b/c.md": entry("b/c.md"), "gone.md": gone,
    }  # fmt: skip


def test_a_revision_stays_as_it_was_first_written_and_the_newest_comes_first(
    index: WritablePromptIndex,
) -> None:
    old = Revision("v1~00ff", NOON, 12, {"_tone.md": "t1"})
    new = Revision("v2", NOON + timedelta(seconds=1), 13, {}, "line 3: broken")
    for revision in (old, new, replace(old, size_bytes=99)):
        asyncio.run(index.add_revision("a.md", revision))
    asyncio.run(index.add_revision("b.md", replace(old, version="other")))
    assert list(asyncio.run(index.history("a.md"))) == [new, old]
    assert asyncio.run(index.revision("a.md", "v1~00ff")) == old
    assert asyncio.run(index.revision("a.md", "other")) is None
    assert list(asyncio.run(index.history("absent.md"))) == []


def test_whoever_includes_a_partial_is_remembered_once(index: WritablePromptIndex) -> None:
    for path in ("b.md", "a.md", "b.md"):
        asyncio.run(index.add_includer("_tone.md", path))
    asyncio.run(index.add_includer("_tone.md.txt", "c.md"))
    assert list(asyncio.run(index.includers("_tone.md"))) == ["a.md", "b.md"]
    assert list(asyncio.run(index.includers("_absent.md"))) == []


def moved(label: str, before: Shares, after: Shares, second: int = 0) -> LabelMove:
    return LabelMove("a.md", label, before, after, NOON + timedelta(seconds=second), "ada")


STABLE, SPLIT = shares_of(["v1"]), shares_of(["v1", "v2"], 10)


def test_a_label_moves_and_every_move_is_on_record(index: WritablePromptIndex) -> None:
    moves = [
        moved("production", (), STABLE), moved("staging", (), STABLE, 1),
        moved("production", STABLE, SPLIT, 2), moved("staging", STABLE, (), 3),
    ]  # fmt: skip
    before = asyncio.run(index.generation())
    for move in moves:
        seen = asyncio.run(index.labels("a.md"))
        assert asyncio.run(store_of(index).move_label(move, seen))
    assert asyncio.run(index.labels("a.md")) == Labels({"production": SPLIT}, 4)
    assert list(asyncio.run(store_of(index).moves("a.md"))) == moves[::-1]
    assert asyncio.run(index.labels("b.md")) == Labels()
    assert asyncio.run(index.generation()) > before


def test_a_move_gives_way_to_one_that_came_meanwhile_and_leaves_no_record(index: WritablePromptIndex) -> None:
    seen = asyncio.run(index.labels("a.md"))
    assert asyncio.run(store_of(index).move_label(moved("production", (), STABLE), seen))
    assert not asyncio.run(store_of(index).move_label(moved("production", (), SPLIT, 1), seen))
    assert asyncio.run(index.labels("a.md")).shares == {"production": STABLE}
    assert len(asyncio.run(store_of(index).moves("a.md"))) == 1


def store_of(index: WritablePromptIndex) -> LabelStore:
    assert isinstance(index, InMemoryPromptIndex | DynamoPromptIndex)
    return index


def test_an_entry_that_cannot_be_read_is_broken_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        dynamodb = client("dynamodb", None)
        table = create_table(dynamodb, "PromptTable")
        index = DynamoPromptIndex(dynamodb, table)
        put(index, "a.md", "b.md", "c.md")
        poison = {"S": '{"path": "b.md", "required_variables": ["\\ud800"]}'}
        dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": "prompt"}, "sk": {"S": "b.md"}},
            UpdateExpression="SET entry = :poison",
            ExpressionAttributeValues={":poison": poison},
        )
        page = asyncio.run(index.page("", 10, None))
        assert [(e.path, e.state) for e in page.entries] == [
            ("a.md", "ok"),
            ("b.md", "broken"),
            ("c.md", "ok"),
        ]
        ((found),) = asyncio.run(index.find("b.md"))
        assert found.sources == {"b.md": None}  # what no file fits, so that a comparison repairs it
        assert asyncio.run(index.put(entry("b.md"), SECOND, FIRST))
        assert [e.state for e in asyncio.run(index.page("", 10, None)).entries] == ["ok", "ok", "ok"]
        dynamodb.put_item(
            TableName=table,
            Item={"pk": {"S": "history#a.md"}, "sk": {"S": "v0"}, "revision": {"S": "{"}},
        )
        asyncio.run(index.add_revision("a.md", Revision("v1", NOON, 1, {})))
        assert [revision.version for revision in asyncio.run(index.history("a.md"))] == ["v1"]


def test_half_a_line_of_a_folders_history_hides_no_other(tmp_path: Path) -> None:
    first, second = Revision("v1", NOON, 1, {}), Revision("v2", NOON, 1, {})
    asyncio.run(FolderPromptIndex(tmp_path).add_revision("a.md", first))
    (history,) = tmp_path.rglob("revisions.jsonl")
    history.write_bytes(history.read_bytes() + b'{"version": "v0", "ma\n')
    asyncio.run(FolderPromptIndex(tmp_path).add_revision("a.md", second))
    assert {r.version for r in asyncio.run(FolderPromptIndex(tmp_path).history("a.md"))} == {"v1", "v2"}
