"""Which version a caller gets, how soon, and what that costs."""

from __future__ import annotations

import asyncio

import pytest

from llm_gateway.errors import AmbiguousPrompt, InvalidPath, PromptBroken, PromptNotFound, StoreUnavailable
from tests.unit.prompts.catalogue.library import Library
from tests.unit.prompts.parsed_prompts import SECRET, told

BROKEN = f"one\ntwo {{{{ {SECRET} "


def test_the_first_call_reads_the_entry_and_the_file_and_the_next_one_nothing() -> None:
    library = Library()
    library.publish("a.md", "one")
    library.reads()
    assert library.read("a.md") == "one"
    assert library.reads() == (1, 1)
    library.now = 0.49
    assert library.read("a.md") == "one"
    assert library.reads() == (0, 0)


@pytest.mark.parametrize("ttl_s", [0.0, 10.0])
def test_every_edit_is_served_once_the_ttl_has_passed_and_not_before(ttl_s: float) -> None:
    library = Library(ttl_s=ttl_s)
    library.publish("a.md", "one")
    assert library.read("a.md") == "one"
    for now, old, new in ((ttl_s, "one", "two"), (2 * ttl_s, "two", "three")):
        library.publish("a.md", new)
        library.now = now - 0.6 * ttl_s
        assert not ttl_s or library.read("a.md") == old
        library.now = now
        assert library.read("a.md") == new


def test_while_nothing_changes_a_check_costs_one_small_read() -> None:
    library = Library()
    library.publish("a.md", "one")
    for library.now in (0.0, 1.0):
        library.read("a.md")
    library.reads()
    for library.now in (2.0, 2.4, 3.0):
        assert library.read("a.md") == "one"
    assert library.reads() == (2, 0)


def test_a_change_of_another_prompt_rereads_the_entry_but_never_the_file() -> None:
    library = Library()
    library.publish("a.md", "one")
    for library.now in (0.0, 1.0):
        library.read("a.md")
    library.publish("b.md", "other")
    library.reads()
    library.now = 2.0
    assert library.read("a.md") == "one"
    assert library.reads() == (2, 0)


def test_a_deleted_prompt_is_gone_after_the_ttl_and_can_come_back() -> None:
    library = Library(ttl_s=1)
    library.publish("a.md", "one")
    library.read("a.md")
    library.delete("a.md")
    assert library.read("a.md") == "one"
    library.now = 1.0
    with pytest.raises(PromptNotFound):
        library.read("a.md")
    library.publish("a.md", "again")
    assert library.read("a.md") == "again"


def test_an_entry_that_was_read_before_a_change_does_not_outlive_it() -> None:
    async def scenario(library: Library) -> str:
        library.index.held, library.index.found = asyncio.Event(), asyncio.Event()
        slow = asyncio.create_task(library.read_async("a.md"))
        await library.index.found.wait()
        release, library.index.held = library.index.held, None
        await asyncio.to_thread(library.publish, "a.md", "two")
        library.now = 2.0
        await library.read_async("b.md")
        release.set()
        assert await slow == "one"
        return await library.read_async("a.md")

    library = Library()
    library.publish("a.md", "one")
    library.publish("b.md", "other")
    library.read("b.md")
    assert asyncio.run(scenario(library)) == "two"


def test_a_pinned_version_is_served_exactly_whatever_is_current() -> None:
    library = Library()
    first = library.publish("a.md", "one")
    second = library.publish("a.md", "two")
    assert [library.read("a.md", version) for version in (first, second, None)] == ["one", "two", "two"]
    library.publish("a.md", BROKEN)
    library.now = 1.0
    assert [library.read("a.md", version) for version in (first, second, None)] == ["one", "two", "two"]


def test_a_version_that_does_not_exist_is_not_found() -> None:
    library = Library()
    library.publish("a.md", "one")
    other = library.publish("b.md", "other")
    for version in ("nope", other):
        with pytest.raises(PromptNotFound) as refusal:
            library.read("a.md", version)
        assert refusal.value.status == 404


def test_a_pinned_version_that_does_not_parse_says_where_without_quoting_it() -> None:
    library = Library()
    library.publish("a.md", "one")
    broken = library.publish("a.md", BROKEN)
    with pytest.raises(PromptBroken, match="line 2") as refusal:
        library.read("a.md", broken)
    assert refusal.value.status == 422
    assert SECRET not in told(refusal.value)


def test_a_broken_edit_keeps_the_last_good_version_serving() -> None:
    library = Library(ttl_s=0)
    library.publish("a.md", "one")
    library.publish("a.md", BROKEN)
    library.publish("a.md", "\0")
    assert library.read("a.md") == "one"
    library.publish("a.md", "mended")
    assert library.read("a.md") == "mended"


def test_a_prompt_that_never_parsed_is_broken_and_says_why() -> None:
    library = Library()
    library.publish("a.md", BROKEN)
    with pytest.raises(PromptBroken, match="line 2") as refusal:
        library.read("a")
    assert refusal.value.status == 422
    assert SECRET not in told(refusal.value)


@pytest.mark.parametrize("path", ["support/reply.prompt", "support/reply.md", "support/reply.txt"])
def test_a_path_without_extension_fits_the_one_file_that_has_any(path: str) -> None:
    library = Library()
    library.publish(path, "one")
    library.publish("support/reply_all.md", "other")
    library.publish("support/reply/all.md", "other")
    assert library.read("support/reply") == "one"


def test_a_path_that_fits_several_files_is_refused_with_all_of_them() -> None:
    library = Library()
    library.publish("a.prompt", "one")
    library.publish("a.md", "two")
    with pytest.raises(AmbiguousPrompt) as refusal:
        library.read("a")
    assert refusal.value.details == {"candidates": ["a.md", "a.prompt"]}
    assert library.read("a.prompt") == "one"


def test_a_second_file_makes_a_path_without_extension_ambiguous_until_it_is_deleted() -> None:
    library = Library(ttl_s=0)
    library.publish("a.prompt", "one")
    assert library.read("a") == "one"
    library.publish("a.md", "two")
    with pytest.raises(AmbiguousPrompt):
        library.read("a")
    library.delete("a.prompt")
    assert library.read("a") == "two"


@pytest.mark.parametrize("path", ["_tone.md", "_tone", "_shared/tone.md", "a/_b/tone.md"])
def test_a_partial_cannot_be_called(path: str) -> None:
    library = Library()
    library.publish_partial(path if path.endswith(".md") else f"{path}.md", "tone")
    with pytest.raises(PromptNotFound):
        library.read(path)


@pytest.mark.parametrize(("path", "hint"), [("a.md", "'a.md'"), ("a", "'a' with any extension")])
def test_a_prompt_that_is_not_there_is_named(path: str, hint: str) -> None:
    with pytest.raises(PromptNotFound, match=f"no prompt {hint}\\.") as refusal:
        Library().read(path)
    assert refusal.value.param == "prompt"


@pytest.mark.parametrize("path", ["", "/a.md", "../a.md", "a//b.md", "a\0.md"])
def test_a_path_that_is_not_plain_reaches_no_store(path: str) -> None:
    library = Library()
    with pytest.raises(InvalidPath):
        library.read(path)
    assert library.reads() == (0, 0)


def test_the_least_recently_used_files_leave_the_cache_first() -> None:
    library = Library(cache_bytes=20)
    for name in "abc":
        library.publish(f"{name}.md", name * 10)
    for name in "aba":
        library.read(f"{name}.md")
    library.read("c.md")
    library.reads()
    assert [(library.read(f"{name}.md")[0], library.reads()[1]) for name in "acba"] == [
        ("a", 0),
        ("c", 0),
        ("b", 1),
        ("a", 1),
    ]


@pytest.mark.parametrize("cache_bytes", [0, 9])
def test_a_file_larger_than_the_cache_is_served_uncached(cache_bytes: int) -> None:
    library = Library(cache_bytes=cache_bytes)
    library.publish("a.md", "ten bytes.")
    library.reads()
    assert [library.read("a.md") for _ in range(2)] == ["ten bytes."] * 2
    assert library.reads() == (1, 2)


def test_while_the_index_is_down_prompts_at_hand_are_served_on_and_it_is_told() -> None:
    library = Library()
    library.publish("a.md", "one")
    library.read("a.md")
    library.index.down = True
    library.now = 1.0
    assert library.read("a.md") == "one"
    assert [type(error) for error in library.unchecked] == [StoreUnavailable]
    with pytest.raises(StoreUnavailable):
        library.read("b.md")
    library.index.down = False
    library.publish("a.md", "two")
    library.now = 2.0
    assert library.read("a.md") == "two"


def test_under_steady_traffic_the_check_is_made_beside_the_calls_and_delays_none() -> None:
    async def scenario(library: Library) -> list[str]:
        served = []
        for library.now in (0.0, 0.6, 1.2, 1.8, 2.4):
            served.append(await library.read_async("a.md"))
            await asyncio.sleep(0)  # the rest of the call
            await asyncio.sleep(0)
            if library.now == 1.2:
                await asyncio.to_thread(library.publish, "a.md", "two")
        return served

    library = Library()
    library.publish("a.md", "one")
    assert asyncio.run(scenario(library)) == ["one", "one", "one", "one", "two"]
