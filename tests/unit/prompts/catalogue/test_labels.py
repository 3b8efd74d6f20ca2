"""Labels: versions by name, moved without an upload, split between a stable version and a canary."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidParameter, PromptNotFound
from llm_gateway.prompts.catalogue.labels import LabelMove, check_label, chosen_version, shares_of
from tests.fakes import NOON
from tests.unit.prompts.catalogue.library import Library
from tests.unit.prompts.parsed_prompts import modest

KEYS = [f"caller-{number}" for number in range(2_000)]


def move(library: Library, label: str, *versions: str, percent: int | None = None) -> None:
    async def moving() -> bool:
        seen = await library.index.labels("a.md")
        after = shares_of(versions, percent)
        return await library.index.move_label(
            LabelMove("a.md", label, seen.shares.get(label, ()), after, NOON, "ada"), seen
        )

    assert asyncio.run(moving())


def test_a_label_serves_its_version_until_it_is_moved_and_after_the_ttl_the_other() -> None:
    library = Library()
    first, second = library.publish("a.md", "one"), library.publish("a.md", "two")
    move(library, "production", first)
    assert library.read("a", label="production") == "one"
    assert library.read("a") == "two"
    move(library, "production", second)
    assert library.read("a", label="production") == "one"
    library.now = 1.0
    assert library.read("a", label="production") == "two"


def test_a_label_that_is_not_there_is_not_found_and_those_that_are_get_listed() -> None:
    library = Library()
    version = library.publish("a.md", "one")
    with pytest.raises(PromptNotFound, match="it has none"):
        library.read("a.md", label="production")
    move(library, "staging", version)
    library.now = 1.0
    with pytest.raises(PromptNotFound, match="it has staging") as refusal:
        library.read("a.md", label="production")
    assert refusal.value.param == "label"


def test_a_canary_takes_its_percentage_of_the_callers_and_each_caller_keeps_its_version() -> None:
    library = Library(ttl_s=100)
    stable, canary = library.publish("a.md", "stable"), library.publish("a.md", "canary")
    move(library, "production", stable, canary, percent=10)
    served = {key: library.read("a.md", label="production", key=key) for key in KEYS[:300]}
    assert served == {key: library.read("a.md", label="production", key=key) for key in KEYS[:300]}
    assert 10 <= sum(text == "canary" for text in served.values()) <= 55


@modest
@given(st.integers(1, 98), st.integers(1, 98))
def test_whoever_has_the_canary_keeps_it_while_it_grows(one: int, other: int) -> None:
    small, large = sorted((one, other))
    for key in KEYS[:200]:
        before, after = (
            chosen_version(shares_of(["s", "c"], p), "a.md", "production", key) for p in (small, large)
        )
        assert (before, after) != ("c", "s")


def test_the_shares_are_as_large_as_they_say() -> None:
    shares = shares_of(["stable", "canary"], 25)
    chosen = [chosen_version(shares, "a.md", "production", key) for key in KEYS]
    assert 0.22 < chosen.count("canary") / len(KEYS) < 0.28


@pytest.mark.parametrize(
    ("versions", "percent"),
    [(["a"], 10), (["a", "b"], None), (["a", "b"], 0), (["a", "b"], 100), (["a", "a"], 5)],
)
def test_a_canary_needs_a_version_and_a_percentage_that_make_sense(
    versions: list[str], percent: int | None
) -> None:
    with pytest.raises(InvalidParameter):
        shares_of(versions, percent)


@pytest.mark.parametrize("label", ["", "Production", "1st", "a b", "a" * 65, "prod\n", "ünder"])
def test_a_label_is_a_plain_word(label: str) -> None:
    assert check_label("blue-green_2") == "blue-green_2"
    with pytest.raises(InvalidParameter):
        check_label(label)
