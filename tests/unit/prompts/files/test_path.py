"""Which paths are plain, and what their names mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidPath
from llm_gateway.prompts.files.path import (
    MAX_PATH_BYTES,
    check_directory,
    check_path,
    has_extension,
    ignored_because,
    is_partial,
    is_prompt_file,
)
from tests.unit.prompts.parsed_prompts import SECRET, modest, told


@pytest.mark.parametrize(
    "path", ["reply.prompt", "a/b/c.md", "a & b", "grüße/日本語.md", "..a/...", "x" * MAX_PATH_BYTES]
)
def test_a_plain_relative_path_is_accepted_as_it_is(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is absolute"),
        ("../x", "'..' part"),
        ("a/../b", "'..' part"),
        ("a/..", "'..' part"),
        ("./a", "'.' or"),
        ("a//b", "empty,"),
        ("a/", "empty,"),
        ("a\\b", "backslash"),
        ("a\nb", "control"),
        ("a\0b", "control"),
        ("a\u202eb", "control"),
        ("a\ud800b", "control"),
        ("x" * (MAX_PATH_BYTES + 1), "longer than 512 bytes"),
        ("ü" * (MAX_PATH_BYTES // 2 + 1), "longer than 512 bytes"),
    ],
)
def test_a_path_that_is_not_plain_is_refused_by_the_rule_it_breaks(path: str, rule: str) -> None:
    with pytest.raises(InvalidPath, match=rule) as refusal:
        check_path(path)
    assert refusal.value.param == "prompt"


@pytest.mark.parametrize("form", ["/{}", "{}\n", "{}/../x", "{}\\", "{}//"])
def test_a_refusal_does_not_repeat_the_path(form: str) -> None:
    with pytest.raises(InvalidPath) as refusal:
        check_path(form.format(SECRET))
    assert SECRET not in told(refusal.value)


@modest
@given(st.text(max_size=40) | st.text("./\\_a\0\n é", max_size=12))
def test_any_text_is_either_a_path_that_stays_inside_or_refused(text: str) -> None:
    try:
        accepted = check_path(text)
    except InvalidPath:
        return
    assert accepted == text
    assert not {"", ".", ".."} & set(accepted.split("/"))


@pytest.mark.parametrize(("given", "directory"), [("", ""), ("/", ""), ("a", "a"), ("a/b/", "a/b")])
def test_a_directory_is_named_with_or_without_its_slash(given: str, directory: str) -> None:
    assert check_directory(given) == directory


@pytest.mark.parametrize("directory", ["//", "a//", "/a", "..", "a/../b/"])
def test_a_directory_outside_the_catalogue_is_refused_under_its_own_name(directory: str) -> None:
    with pytest.raises(InvalidPath, match="'directory'") as refusal:
        check_directory(directory)
    assert refusal.value.param == "directory"


@pytest.mark.parametrize(
    ("paths", "held"),
    [
        ("a.prompt x/a.md x/y/a.txt _tone.md", True),
        ("a md a.PROMPT a.prompt.bak image.png x//a.md ../a.md", False),
        (".a.md x/.a.md .git/a.md x/.git/a.md ..data/a.md ._a.md ..a.md ...md", False),
        ("a.md~ .a.md.swp 4913 #a.md# .DS_Store README a.md.tmp", False),
        ("a.b.md x.y/a.md a..md", True),
    ],
)
def test_the_catalogue_holds_plain_paths_with_a_known_extension(paths: str, held: bool) -> None:
    assert {is_prompt_file(path) for path in paths.split()} == {held}


@pytest.mark.parametrize(("paths", "partial"), [("_a.md _x/a.md x/_y/a.md", True), ("a_b.md x/a_.md", False)])
def test_an_underscore_in_front_of_any_part_makes_a_partial(paths: str, partial: bool) -> None:
    assert {is_partial(path) for path in paths.split()} == {partial}


@pytest.mark.parametrize(("path", "one_file"), [("a.md", True), ("a", False), ("a.b", False), ("md", False)])
def test_only_a_known_extension_names_one_file(path: str, one_file: bool) -> None:
    assert has_extension(path) is one_file


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (".git/a.md", "begins with a dot"),
        ("a.MD", "ends in none of .prompt, .md, .txt"),
        ("a\\b.md", "holds a backslash"),
        ("caf\udce9.md", "control or unassigned"),
        ("a.md", None),
    ],
)
def test_what_is_ignored_is_ignored_for_a_reason(path: str, reason: str | None) -> None:
    told = ignored_because(path)
    assert told == reason if reason is None or told is None else reason in told
