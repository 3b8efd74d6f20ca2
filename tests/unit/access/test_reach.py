"""What a caller is told about prompts: all of its own, and nothing of the others."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

from llm_gateway.access.caller import OPEN, Caller, Scopes
from llm_gateway.access.errors import Forbidden
from llm_gateway.access.reach import HIDDEN, Reach
from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.api.prompts import ListQuery, list_prompts, prompt_metadata
from llm_gateway.errors import AmbiguousPrompt, InvalidParameter, InvalidPath, PromptBroken, PromptNotFound
from llm_gateway.prompts.catalogue.catalogue import EntryPage
from llm_gateway.prompts.catalogue.entries import PromptEntry, Stamp
from llm_gateway.prompts.catalogue.listing import find_entry
from tests.fakes import NOON
from tests.unit.prompts.catalogue.library import Library

PATHS = [
    "a.md", "legal/x.md", "supp.md", "supp.prompt", "support/a.md", "support/b.prompt", "support/deep/c.txt",
    "support/reply.prompt", "support/reply.prompt.md", "support2/secret.md", "translate.md", "translate.txt",
    "zoo/z.md",
]  # fmt: skip


class Index(InMemoryPromptIndex):
    """An index that remembers what it was asked to hand over.

    Attributes:
        handed: Paths of all entries that a page or a look-up has read.
    """

    def __init__(self, paths: Sequence[str] = PATHS) -> None:
        super().__init__()
        self.handed: set[str] = set()
        for path in paths:
            entry = PromptEntry(path, "v1", "e", 1, NOON)
            asyncio.run(self.put(entry, Stamp("1", 1), None))

    @override
    async def page(self, directory: str, limit: int, after: str | None) -> EntryPage:
        page = await super().page(directory, limit, after)
        self.handed |= {entry.path for entry in page.entries}
        return page


def key(*prompts: str) -> Caller:
    return Caller("shop", "k", Scopes(prompts=prompts))


def pages(
    index: Index, caller: Caller, limit: int, directory: str = ""
) -> list[tuple[list[str], str | None]]:
    found: list[tuple[list[str], str | None]] = []
    cursor: str | None = None
    while True:
        query = ListQuery(directory=directory, limit=limit, cursor=cursor)
        answer = asyncio.run(list_prompts(index, query, caller))
        found.append(([prompt.path for prompt in answer.prompts], answer.next_cursor))
        cursor = answer.next_cursor
        if cursor is None:
            return found


def decoded(cursor: str) -> str:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def encoded(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
@pytest.mark.parametrize(
    "bounds",
    [
        ("support/",), ("support/", "translate.txt"), ("translate.txt", "a.md"),
        ("support/", "support/deep/"),
        ("nothing/",), ("support",), ("",), ("tr", "support/reply.prompt"), (), ("/",),
    ],
)  # fmt: skip
@pytest.mark.parametrize("directory", ["", "support", "support/deep", "legal"])
def test_pages_hold_exactly_what_a_key_opens_and_are_full_but_for_the_last(
    bounds: tuple[str, ...], limit: int, directory: str
) -> None:
    index, caller = Index(), key(*bounds)
    below = f"{directory}/" if directory else ""
    readable = [path for path in PATHS if caller.reach.holds(path) and path.startswith(below)]
    found = pages(index, caller, limit, directory)
    assert [path for page, _ in found for path in page] == readable
    for page, cursor in found[:-1]:
        assert len(page) == limit
        assert cursor is not None
        assert decoded(cursor) == page[-1]  # of what was given, and of nothing else
    assert found[-1][1] is None


def test_a_listing_begins_at_the_scope_and_reads_nothing_outside_of_it() -> None:
    index = Index()
    pages(index, key("support/"), 1)
    assert all(path.startswith("support/") for path in index.handed)


@example(["support/reply.prompt", "support/reply.prompt.md", "support2/secret.md"])
@given(
    st.lists(st.sampled_from([*PATHS, "support/", "support", "s", "zoo/", "legal/", "", "x/"]), max_size=4)
)
def test_any_scopes_list_what_they_open_once_and_in_order(bounds: list[str]) -> None:
    index, caller = Index(), key(*bounds)
    found = [path for page, _ in pages(index, caller, 2) for path in page]
    assert found == [path for path in PATHS if caller.reach.holds(path)]


@pytest.mark.parametrize(
    "cursor",
    ["", "!", "AAAA", "====", encoded("zoo/z.md"), encoded("support2/secret.md"),
     encoded("support/../zoo/z.md"),
     encoded("support/"), encoded("support/x"), encoded("support/_part.md"), encoded("/support/a.md"),
     encoded("support/a.md") + "=", encoded("support/a\x00.md"), "c3VwcG9ydC9hLm1k\n", "éé"],
)  # fmt: skip
def test_a_cursor_that_this_listing_cannot_have_given_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        asyncio.run(list_prompts(Index(), ListQuery(cursor=cursor), key("support/")))
    assert caught.value.param == "cursor"


@pytest.mark.parametrize(
    "name", ["supp", "supp.md", "s", "support", "support2/secret", "absent", "translate.md"]
)
def test_a_name_outside_of_the_scope_gets_one_answer_whether_it_exists_or_not(name: str) -> None:
    with pytest.raises(Forbidden) as caught:
        asyncio.run(prompt_metadata(Index(), name, key("support/", "translate.txt")))
    assert caught.value.message == "Your key does not allow this prompt; it allows support/, translate.txt."


@pytest.mark.parametrize(
    ("name", "error"),
    [("support/../zoo/z.md", InvalidPath), ("support//a.md", InvalidPath),
     ("support/%2e%2e/zoo/z.md", PromptNotFound),
     ("/support/a.md", Forbidden), ("Support/a.md", Forbidden), ("./support/a.md", Forbidden)],
)  # fmt: skip
def test_no_way_of_writing_a_path_leaves_a_scope(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(prompt_metadata(Index(), name, key("support/")))


def test_a_scope_in_one_unicode_form_opens_no_path_in_the_other() -> None:
    composed, decomposed = "caf\u00e9/", "cafe\u0301/"
    assert not Reach((composed,)).holds(f"{decomposed}a.md")


def test_several_files_of_one_stem_are_those_that_the_key_opens() -> None:
    index = Index()
    with pytest.raises(AmbiguousPrompt) as caught:
        asyncio.run(find_entry(index, "translate", OPEN.reach))
    assert caught.value.details == {"candidates": ["translate.md", "translate.txt"]}
    assert asyncio.run(find_entry(index, "translate", Reach(("translate.txt",)))).path == "translate.txt"


@pytest.mark.parametrize(
    ("reach", "name", "meant"),
    [
        (Reach(), "support/repyl.prompt", "Did you mean 'support/reply.prompt'?"),
        (Reach(), "suport/reply.prompt", "Did you mean 'support/reply.prompt'?"),
        (Reach(), "translat", "Did you mean 'translate.md'?"),
        (Reach(("support/",)), "support/repyl.prompt", "Did you mean 'support/reply.prompt'?"),
        (Reach(("support/deep/",)), "support/deep/d.txt", "Did you mean 'support/deep/c.txt'?"),
        (Reach(("support/deep/",)), "support/deep/quite-different.md", None),
        (Reach(), "completely/different.md", None),
        (Reach(), "s" * 400 + ".md", None),
    ],
)
def test_a_typing_error_is_met_with_the_nearest_prompt_in_reach(
    reach: Reach, name: str, meant: str | None
) -> None:
    with pytest.raises(PromptNotFound) as caught:
        asyncio.run(find_entry(Index(), name, reach))
    assert ("Did you mean" in caught.value.message) is (meant is not None)
    assert meant is None or meant in caught.value.message


def test_a_suggestion_costs_a_small_page_however_many_prompts_there_are() -> None:
    index = Index([f"many/p{n:05}.md" for n in range(3_000)])
    with pytest.raises(PromptNotFound):
        asyncio.run(find_entry(index, "many/p00001x.md"))
    assert len(index.handed) <= 50


def test_errors_and_metadata_name_no_file_outside_of_the_scope() -> None:
    library = Library()
    library.files.upload("support/a.md", b'{% include "_shared/secret.md" %}')
    library.process_event("support/a.md")
    caller = key("support/")
    metadata = asyncio.run(prompt_metadata(library.index, "support/a.md", caller))
    assert "_shared" not in metadata.model_dump_json()
    assert HIDDEN in (metadata.error or "")
    library.files.upload("_shared/secret.md", b"Hush.")
    library.process_event("_shared/secret.md")
    shown = asyncio.run(prompt_metadata(library.index, "support/a.md", caller))
    assert (shown.state, shown.partials) == ("ok", {})
    assert "_shared/secret.md" in asyncio.run(prompt_metadata(library.index, "support/a.md", OPEN)).partials


@pytest.mark.parametrize("partial", [
    "_hush/pay roll one.md", "_hush/o'neil two.md", "_hush/a,b: c.md", "_hush/x (four).txt",
    "_hush/“five”.md", '_hush/x "six".md', "_hush/a -> b.md", "_hush/a.md b.md", "_hush/a.md: b.md",
])  # fmt: skip
@pytest.mark.parametrize("text", [None, b"{% if %}", b"{{ name|hush }}", b"\xff"])
def test_no_error_gives_away_a_part_of_a_hidden_name_however_it_is_spelled(
    partial: str, text: bytes | None
) -> None:
    library = Library()
    quote = "'" if '"' in partial else '"'
    if text is not None:
        library.files.upload(partial, text)
    library.files.upload("support/a.md", f"{{% include {quote}{partial}{quote} %}}".encode())
    library.process_event("support/a.md")
    caller = key("support/")
    told = asyncio.run(prompt_metadata(library.index, "support/a.md", caller))
    assert told.error is not None
    with pytest.raises(PromptBroken) as caught:
        asyncio.run(library.catalogue.load("support/a.md", reach=caller.reach))
    errors = [told.error, *(item.error or "" for item in told.history), caught.value.message]
    spelled = [word for word in re.split(r"\W+", partial.removeprefix("_hush")) if len(word) > 2]
    for error in errors:
        assert "_hush/" not in error
        assert not [word for word in spelled if word in error.replace(HIDDEN, "")]


def test_an_old_error_hides_a_name_that_no_file_has_any_more() -> None:
    reach = Reach(("support/",))
    assert reach.redacted("_hush/pay roll -> x.md line 3: there is no filter 'f'") == (
        f"{HIDDEN} line 3: there is no filter 'f'"
    )
    assert reach.redacted("line 2: there is no partial '_hush/o'neil two.md'") == (
        f"line 2: there is no partial {HIDDEN}"
    )


def test_a_name_in_reach_is_shown_whole_even_if_a_hidden_one_is_a_part_of_it() -> None:
    reach = Reach(("support/",))
    text = "there is no partial 'support/_a b.md'"
    assert reach.redacted(text, ["_a b.md", "support/_a b.md"]) == text


def test_what_one_caller_has_looked_up_shows_nothing_to_another() -> None:
    """The view of what is current is shared by all callers of a process."""
    library = Library()
    for path in ("doors.md", "doors.txt"):
        library.files.upload(path, b"x")
        library.process_event(path)
    with pytest.raises(AmbiguousPrompt):
        library.read("doors")
    loaded = asyncio.run(library.catalogue.load("doors", reach=Reach(("doors.txt",))))
    assert loaded.path == "doors.txt"
    with pytest.raises(PromptNotFound):
        asyncio.run(library.catalogue.load("doors", reach=Reach(("other/",))))
