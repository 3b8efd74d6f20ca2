"""From an upload to its entry: what is true now, whatever the events say and when they come."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_gateway.models.options import ModelOptions
from llm_gateway.prompts.catalogue.entries import PromptEntry, Stamp
from llm_gateway.prompts.catalogue.indexing import padded
from tests.fakes import NOON
from tests.unit.prompts.catalogue.library import Library
from tests.unit.prompts.parsed_prompts import SECRET, modest

GOOD = """---
description: Drafts a reply.
model: openai/gpt-4o-mini
topic: unknown
config: {temperature: 0.5, stopSequences: [END]}
input: {schema: {name: string, 'tone?': string}, default: {tone: warm}}
---
{{ name }} {{ tone }}
"""
BROKEN = f"{{% if {SECRET} %}}"


def entry_of(library: Library, path: str = "a.md") -> PromptEntry | None:
    return library.entry(path)


def test_an_upload_is_indexed_with_all_that_callers_ask_about() -> None:
    library = Library()
    version = library.files.upload("a.md", GOOD.encode())
    outcome, entry = library.process_event("a.md")
    assert outcome == "indexed"
    assert entry == entry_of(library)
    assert entry == PromptEntry(
        path="a.md",
        version=version,
        etag=f"etag-{version}",
        size_bytes=len(GOOD),
        last_modified=NOON,
        state="ok",
        required_variables=("name",),
        description="Drafts a reply.",
        model="openai/gpt-4o-mini",
        parameters=ModelOptions(temperature=0.5, stop=("END",)),
        input_schema={
            "type": "object",
            "properties": {"name": {"type": "string"}, "tone": {"type": ["string", "null"]}},
            "additionalProperties": False,
            "required": ["name"],
        },
        error=None,
        warnings=("unknown key 'topic' is ignored",),
        sources={"a.md": version},
    )


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (BROKEN.encode(), "line 1: the template ends inside a tag or block"),
        (b"\xff", "line 1: the file is not UTF-8 text"),
        (b"---\na: ]\n---\n", "line 2: the front matter is not valid YAML"),
        (b"x" * 1_001, "the file is too large (1001 bytes)"),
    ],
)
def test_a_first_upload_that_is_broken_has_no_version_and_says_why(data: bytes, error: str) -> None:
    library = Library()
    library.files.upload("a.md", data)
    outcome, entry = library.process_event("a.md")
    assert outcome == "broken"
    assert (entry.state, entry.version, entry.error) == ("broken", None, error)
    assert entry.size_bytes == len(data)
    assert entry == entry_of(library)


def test_a_broken_upload_is_described_while_the_last_good_version_stays() -> None:
    library = Library()
    library.publish("a.md", GOOD)
    good = entry_of(library)
    assert good is not None
    for data in (BROKEN, "\0"):
        broken = library.publish("a.md", data)
        entry = entry_of(library)
        assert entry is not None
        assert entry == replace(
            good,
            sources={"a.md": broken},
            state="broken",
            error=entry.error,
            etag=f"etag-{broken}",
            size_bytes=len(data),
        )
        assert entry.error
        assert SECRET not in entry.error


def test_a_broken_upload_after_a_deletion_revives_no_old_version() -> None:
    library = Library()
    library.publish("a.md", GOOD)
    library.delete("a.md")
    library.publish("a.md", BROKEN)
    entry = entry_of(library)
    assert entry is not None
    assert (entry.state, entry.version, entry.description) == ("broken", None, None)


@pytest.mark.parametrize("late", ["000001", "000002", "0000", "00000200"])
def test_a_late_or_repeated_event_changes_nothing(late: str) -> None:
    library = Library()
    library.publish("a.md", GOOD)
    library.publish("a.md", "newest")
    before = entry_of(library)
    library.files.delete("a.md")
    outcome, _ = library.process_event("a.md", late)
    assert outcome == "outdated"
    assert entry_of(library) == before


@pytest.mark.parametrize("later", ["000003", "0000021", "FF", "00000F", "00000f"])
def test_a_later_event_counts_whatever_the_length_of_its_sequencer(later: str) -> None:
    library = Library()
    library.publish("a.md", GOOD)
    library.publish("a.md", "newest")
    library.files.delete("a.md")
    outcome, entry = library.process_event("a.md", later)
    assert outcome == "deleted"
    assert (
        entry
        == entry_of(library)
        == PromptEntry("a.md", None, "", 0, NOON, state="deleted", sources={"a.md": None})
    )


def test_a_marker_of_a_deletion_holds_off_the_late_event_of_the_upload() -> None:
    library = Library()
    library.process_event("a.md", "B0")
    library.files.upload("a.md", GOOD.encode())
    assert library.process_event("a.md", "A0")[0] == "outdated"
    assert library.process_event("a.md", "C0")[0] == "indexed"


@pytest.mark.parametrize(
    ("text", "sequencer", "outcome"),
    [(GOOD, "FF", "indexed"), (BROKEN, "FF", "broken"), (None, "FF", "deleted"), (GOOD, "00", "outdated")],
)
def test_every_outcome_tells_all_processes_to_look_again(
    text: str | None, sequencer: str, outcome: str
) -> None:
    library = Library()
    library.publish("a.md", "before")
    before = asyncio.run(library.index.generation())
    if text is None:
        library.files.delete("a.md")
    else:
        library.files.upload("a.md", text.encode())
    assert library.process_event("a.md", sequencer)[0] == outcome
    assert asyncio.run(library.index.generation()) > before


_SEQUENCERS = st.text("0123456789abcdefABCDEF", min_size=1, max_size=40)


@modest
@given(_SEQUENCERS, _SEQUENCERS)
@example("a", "B")
@example("A", "a0")
def test_padded_sequencers_compare_like_hex_numbers_with_zeros_on_the_right(one: str, other: str) -> None:
    one_number, other_number = (int(text.ljust(40, "0"), 16) for text in (one, other))
    assert (padded(one) < padded(other)) == (one_number < other_number)
    assert (padded(one) == padded(other)) == (one_number == other_number)


def test_a_hidden_file_in_the_bucket_is_ignored_and_an_entry_from_before_that_rule_goes() -> None:
    library = Library()
    library.files.upload(".git/a.md", GOOD.encode())
    library.files.upload("b.md", GOOD.encode())
    old = PromptEntry(".git/a.md", "v1", "e", 1, NOON, state="ok", sources={".git/a.md": "v1"})
    asyncio.run(library.index.put(old, Stamp("0", 1), None))
    assert sorted(library.reconcile()) == [".git/a.md", "b.md"]
    assert [getattr(library.entry(path), "state", None) for path in (".git/a.md", "b.md")] == [
        "deleted",
        "ok",
    ]
    assert library.reconcile() == []
