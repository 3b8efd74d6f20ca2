"""Partials: texts that prompts share, which change and break with nobody noticing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import PromptBroken, PromptNotFound
from llm_gateway.models.messages import Message
from llm_gateway.prompts.catalogue.entries import version_of
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.files.includes import compose, read_source
from llm_gateway.prompts.prompt import Prompt, parse_prompt
from tests.unit.prompts.catalogue.library import Library
from tests.unit.prompts.parsed_prompts import modest

INCLUDING = '{% include "_tone.md" %}\nAnswer.'


def composed(text: str, **partials: str) -> Prompt:
    files = {f"_{name}.md": content.encode() for name, content in partials.items()}
    return parse_prompt("a.md", "v1", text.encode(), files)


def content(text: str, **partials: str) -> str:
    (message,) = composed(text, **partials).render({}, 1_000)
    return message.content


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('{% include "_tone.md" %}\nEnd', "Be kind.\nEnd"),
        ("Tone: {% include '_tone.md' %} End", "Tone: Be kind. End"),
        ('  {% include "_tone.md" %}\nEnd', "Be kind.\nEnd"),
        ('Tone:  {%- include "_tone.md" -%}  \n End', "Tone:Be kind.End"),
        ('{% raw %}{% include "_tone.md" %}{% endraw %}', '{% include "_tone.md" %}'),
        ('{# {% include "_absent.md" %} #}{% include "_tone.md" %}', "Be kind."),
        ("{{ '{% include \"_absent.md\" %}' }}", '{% include "_absent.md" %}'),
        ('{% if true %}{% include "_tone.md" %}{% endif %}', "Be kind."),
        ('{% include "_tone.md" %}{% include "_tone.md" %}', "Be kind.Be kind."),
        ("we include nothing", "we include nothing"),
    ],
)
def test_a_partial_s_text_stands_where_its_tag_stood(text: str, whole: str) -> None:
    assert content(text, tone="Be kind.\n") == whole


def test_partials_include_partials_and_share_macros_and_variables_with_the_prompt() -> None:
    text = '{% include "_outer.md" %}{{ shout(name) }}{{ mood }}'
    prompt = composed(
        text,
        outer='{% include "_inner.md" %}',
        inner="{% macro shout(x) %}{{ x }}!{% endmacro %}{{ greeting }} ",
    )
    assert set(prompt.required_variables) == {"greeting", "name", "mood"}
    (message,) = prompt.render({"greeting": "Hi", "name": "Ada", "mood": "?"}, 1_000)
    assert message.content == "Hi Ada!?"


def test_a_role_line_of_a_partial_opens_a_message_unless_the_tag_stands_in_a_block() -> None:
    roles = "system:\nBe kind.\nuser:\n"
    assert composed('{% include "_roles.md" %}\nHi', roles=roles).render({}, 100) == (
        Message("system", "Be kind."), Message("user", "Hi"),
    )  # fmt: skip
    assert content('{% if true %}{% include "_roles.md" %}{% endif %}', roles=roles) == roles.strip()


def test_a_partial_s_front_matter_is_no_text_and_its_lines_are_counted() -> None:
    assert content('{% include "_a.md" %}', a="---\ndescription: x\n---\nBody") == "Body"
    with pytest.raises(PromptSyntaxError, match=r"^_a.md line 5: "):
        composed('{% include "_a.md" %}', a="---\ndescription: x\n---\nBody\n{% nope %}")


def test_lines_after_a_partial_are_those_of_the_prompt_s_own_file() -> None:
    with pytest.raises(PromptSyntaxError, match=r"^line 4: "):
        composed('---\n---\n{% include "_a.md" %}\n{{ x | nofilter }}', a="1\n2\n3\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('\n{% include "_absent.md" %}', "line 2: there is no partial '_absent.md'"),
        ('{% include "tone.md" %}', "line 1: 'include' takes a partial"),
        ('{% include "../_tone.md" %}', "line 1: 'include' takes a partial"),
        ("{% include name %}", "line 1: 'include' takes one partial's path in quotes"),
        ('{% include "_tone.md" ignore missing %}', "line 1: 'include' takes one partial's path in quotes"),
        ('{% include ["_tone.md"] %}', "line 1: 'include' takes one partial's path in quotes"),
        ('{% import "_tone.md" as t %}', "line 1: 'import' is not available"),
        ('{% extends "_tone.md" %}', "line 1: 'extends' is not available"),
        ('{% include "_self.md" %}', "_self.md line 1: '_self.md' includes itself"),
    ],
)
def test_what_cannot_be_included_is_named_with_file_and_line(text: str, reason: str) -> None:
    with pytest.raises(PromptSyntaxError) as caught:
        composed(text, tone="Be kind.", self='{% include "_self.md" %}')
    assert str(caught.value).startswith(reason)


def test_a_partial_closes_what_it_opens() -> None:
    with pytest.raises(PromptSyntaxError, match=r"^_open.md line 1: the template ends inside"):
        composed('{% include "_open.md" %}{% endif %}', open="{% if x %}")


def test_partials_that_multiply_end_before_they_fill_the_memory() -> None:
    twice = {f"p{n}": f'{{% include "_p{n + 1}.md" %}}' * 8 for n in range(12)}
    with pytest.raises(PromptSyntaxError, match="too large"):
        composed('{% include "_p0.md" %}', **twice, p12="x" * 100)


@modest
@given(st.lists(st.sampled_from(["a", "\n", "  ", "{% raw %}{% include '_t.md' %}{% endraw %}", "INC"])))
def test_every_line_of_the_whole_is_told_by_file_and_line_of_its_author(parts: list[str]) -> None:
    text = "".join(part.replace("INC", '{% include "_t.md" %}') for part in parts)
    partial = read_source("_t.md", b"one\ntwo\n\nfour\n")
    whole = compose(read_source("a.md", text.encode()), {"_t.md": partial})
    assert len(whole.origins) == whole.text.count("\n") + 1
    for line, (source, number) in zip(whole.text.split("\n"), whole.origins, strict=True):
        own = source.body.split("\n")[number - 1]
        assert line in own or "include" in own or source is partial


def test_an_edit_of_a_partial_is_served_by_every_prompt_that_includes_it() -> None:
    library = Library(ttl_s=0)
    library.publish_partial("_tone.md", "Be kind.")
    own = library.publish("a.md", INCLUDING)
    library.publish("b.md", INCLUDING)
    assert library.read("a.md") == "Be kind.\nAnswer."
    before = library.entry("a.md")
    library.publish_partial("_tone.md", "Be brief.")
    after = library.entry("a.md")
    assert [library.read(path) for path in ("a.md", "b.md")] == ["Be brief.\nAnswer."] * 2
    assert before
    assert after
    assert before.version != after.version == version_of(own, after.partials)
    assert library.read("a.md", before.version) == "Be kind.\nAnswer."


def test_a_prompt_may_come_before_its_partial() -> None:
    library = Library(ttl_s=0)
    library.publish("a.md", INCLUDING)
    with pytest.raises(PromptBroken, match=r"'_tone\.md'"):
        library.read("a.md")
    library.publish_partial("_tone.md", "Be kind.")
    assert library.read("a.md") == "Be kind.\nAnswer."
    entry = library.entry("a.md")
    assert entry
    assert entry.state == "ok"


@pytest.mark.parametrize("change", ["broken", "deleted", "cycle"])
def test_a_partial_that_breaks_or_goes_is_reported_and_its_last_good_version_stays(change: str) -> None:
    library = Library(ttl_s=0)
    library.publish_partial("_tone.md", "Be kind.")
    library.publish("a.md", INCLUDING)
    if change == "deleted":
        library.files.delete("_tone.md")
    else:
        library.files.upload("_tone.md", b"\n{% if %}" if change == "broken" else b'{% include "_tone.md" %}')
    ((outcome, entry),) = library.process_events("_tone.md")
    assert (outcome, entry.state) == ("broken", "broken")
    assert entry.error
    assert "_tone.md" in entry.error
    assert library.read("a.md") == "Be kind.\nAnswer."
    library.publish_partial("_tone.md", "Be well.")
    assert library.read("a.md") == "Be well.\nAnswer."


def test_the_event_of_a_prompt_and_that_of_its_partial_may_come_in_any_order() -> None:
    library = Library(ttl_s=0)
    library.files.upload("a.md", INCLUDING.encode())
    library.files.upload("_tone.md", b"Be kind.")
    assert library.process_events("_tone.md") == []
    library.process_event("a.md")
    assert library.read("a.md") == "Be kind.\nAnswer."


def test_a_lost_event_of_a_partial_is_repaired() -> None:
    library = Library(ttl_s=0)
    library.publish_partial("_tone.md", "Be kind.")
    library.publish("a.md", INCLUDING)
    library.publish("b.md", "plain")
    library.files.upload("_tone.md", b"Be brief.")
    assert library.reconcile() == ["a.md"]
    assert library.reconcile() == []
    assert library.read("a.md") == "Be brief.\nAnswer."


def test_a_broken_partial_is_no_drift_for_ever() -> None:
    library = Library()
    library.publish_partial("_tone.md", "Be kind.")
    library.publish("a.md", INCLUDING)
    library.publish_partial("_tone.md", "{% if %}")
    assert library.reconcile() == []


def test_a_digest_that_names_no_version_is_not_found() -> None:
    library = Library()
    library.publish_partial("_tone.md", "Be kind.")
    own = library.publish("a.md", INCLUDING)
    for version in (f"{own}~0123456789abcdef", "nope~0123456789abcdef"):
        with pytest.raises(PromptNotFound):
            library.read("a.md", version)


def test_the_history_holds_every_version_and_what_was_broken() -> None:
    library = Library()
    first = library.publish("a.md", "one")
    broken = library.publish("a.md", "{% if %}")
    last = library.publish("a.md", "two")
    history = asyncio.run(library.index.history("a.md"))
    assert {r.version: r.error is None for r in history} == {first: True, broken: False, last: True}
