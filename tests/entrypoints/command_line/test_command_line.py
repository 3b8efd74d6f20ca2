"""The author's command line, over a folder of prompts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result
from typing_extensions import override

from llm_gateway.adapters.local.prompt_files import FolderPromptFiles
from llm_gateway.adapters.local.prompt_index import FolderPromptIndex
from llm_gateway.entrypoints.command_line.app import create_app
from llm_gateway.entrypoints.command_line.stores import Place, PromptStores, open_stores
from llm_gateway.errors import GatewayError
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.catalogue.labels import LabelMove, shares_of
from llm_gateway.prompts.catalogue.shares import Labels
from tests.fakes import NOON

PROMPT = "a.prompt"
GOOD = (
    "---\ndescription: Greets.\nmodel: openai/gpt-4o-mini\n---\n"
    "system:\nBe kind.\nuser:\nI am {{ user.name }}.\n"
)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder that is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The author's folder."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / PROMPT).write_text(GOOD)
    return folder


def run(*arguments: object, app: Any = None) -> Result:
    return CliRunner().invoke(app or create_app(), [str(a) for a in arguments], catch_exceptions=True)


def on(there: Path, *arguments: object) -> Result:
    return run("--folder", there, *arguments)


def pushed(here: Path, there: Path, *texts: str) -> list[str]:
    """Push these texts one after the other; the versions they became."""
    versions = []
    for text in texts:
        (here / PROMPT).write_text(text)
        assert on(there, "push", here / PROMPT).exit_code == 0
        versions.append(shown(there)["version"])
    return versions


def shown(there: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(on(there, "show", PROMPT, "--json").stdout)
    return result


def production(there: Path) -> Any:
    return shown(there)["labels"].get("production")


def refusal(result: Result) -> str:
    assert isinstance(result.exception, GatewayError)
    return result.exception.message


def test_lint_passes_a_good_folder_and_says_what_a_call_can_cost(here: Path) -> None:
    result = run("lint", here)
    assert result.exit_code == 0
    assert "1 prompts, 0 errors, 0 warnings" in result.stdout
    assert "gpt-4o-mini" in result.stdout
    assert "16384" in result.stdout


def test_lint_names_file_line_and_code_and_fails(here: Path) -> None:
    (here / PROMPT).write_text("---\nmodel: openai/gpt-99\n---\n{{ name }}")
    result = run("lint", here / PROMPT)
    assert result.exit_code == 1
    assert "a.prompt:2: error:" in result.stdout
    assert "[unknown-model]" in result.stdout


def test_lint_finds_a_partial_s_fault_once_though_two_prompts_include_it(here: Path) -> None:
    (here / "_tone.md").write_text("\n{% if %}")
    for name in ("b.md", "c.md"):
        (here / name).write_text('{% include "_tone.md" %}')
    findings = json.loads(run("lint", here, "--json").stdout)
    assert [(f["path"], f["line"], f["severity"]) for f in findings] == [("_tone.md", 2, "error")]


def test_lint_annotates_for_github_with_everything_escaped(here: Path) -> None:
    (here / "a,b.md").write_text("---\ntopic: x\n---\nHello")
    result = run("lint", here / "a,b.md", "--github")
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert line.startswith("::error file=")
    assert "a%2Cb.md,line=2,title=unknown-key::unknown key" in line


def test_warnings_fail_only_where_they_are_asked_to(here: Path) -> None:
    (here / PROMPT).write_text("Hello\nsystem:\nBe kind.")
    assert run("lint", here).exit_code == 0
    assert run("lint", here, "--strict").exit_code == 1


@pytest.mark.parametrize("target", ["absent", "notes.rst"])
def test_a_target_that_is_no_prompt_is_named(here: Path, target: str) -> None:
    (here / "notes.rst").write_text("x")
    assert target in refusal(run("lint", here / target))


@pytest.mark.parametrize("command", ["lint", "render", "push"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".hidden.md", "begins with a dot"),
        (".git/a.md", "begins with a dot"),
        ("a.md~", "its name ends in none of"),
        ("out.md", "leads out of the folder"),
        ("pipe.md", "no regular file"),
    ],
)
def test_a_file_that_is_ignored_says_why_if_it_is_named(
    command: str, name: str, reason: str, here: Path, there: Path
) -> None:
    (here.parent / "outside.md").write_text("outside")
    (here / ".git").mkdir()
    for hidden in (".hidden.md", ".git/a.md", "a.md~"):
        (here / hidden).write_text("text")
    (here / "out.md").symlink_to("../outside.md")
    os.mkfifo(here / "pipe.md")
    result = on(there, command, here / name)
    assert result.exit_code != 0
    assert "is ignored, because" in refusal(result)
    assert reason in refusal(result)
    assert on(there, "lint", here).exit_code == 0


def test_links_into_the_folder_are_linted_and_pushed_under_their_own_name(here: Path, there: Path) -> None:
    (here / "..data").mkdir()
    (here / PROMPT).rename(here / "..data" / PROMPT)
    (here / PROMPT).symlink_to(f"..data/{PROMPT}")
    assert on(there, "push", here / PROMPT).exit_code == 0
    assert shown(there)["state"] == "ok"


def test_a_file_that_cannot_be_read_is_no_reason_to_say_that_all_is_well(here: Path) -> None:
    (here / "b.md").symlink_to("nowhere.md")
    assert "'b.md' cannot be read" in refusal(run("lint", here))


def test_render_shows_messages_and_tokens_and_calls_no_model(here: Path) -> None:
    (here / "_tone.md").write_text("Be brief, {{ times }} times.")
    (here / PROMPT).write_text('{% include "_tone.md" %}\nuser:\nI am {{ user.name }}.')
    (here / "vars.json").write_text('{"times": 1, "user": {"name": "Bo"}}')
    arguments = ["render", here / PROMPT, "--vars", here / "vars.json", "--var", "user.name=Ada"]
    answer = json.loads(run(*arguments, "--json").stdout)
    assert [m["content"] for m in answer["messages"]] == ["Be brief, 1 times.", "I am Ada."]
    assert answer["estimated_tokens"] > 8
    assert "I am Ada." in run(*arguments).stdout


def test_render_names_the_variables_that_are_missing(here: Path) -> None:
    assert "user.name" in refusal(run("render", here / PROMPT))


def test_push_shows_the_difference_uploads_and_tells_what_is_served(here: Path, there: Path) -> None:
    result = on(there, "push", here)
    assert result.exit_code == 0
    assert "+Be kind." in result.stdout
    assert "it needs user.name" in result.stdout
    assert (there / PROMPT).read_text() == GOOD
    assert "nothing changed" in on(there, "push", here).stdout


def test_a_dry_run_uploads_nothing(here: Path, there: Path) -> None:
    assert "+Be kind." in on(there, "push", here, "--dry-run").stdout
    assert not (there / PROMPT).exists()


def test_push_refuses_what_lint_finds_wrong_unless_it_is_forced(here: Path, there: Path) -> None:
    (here / PROMPT).write_text("{% if %}")
    assert on(there, "push", here).exit_code == 1
    assert not (there / PROMPT).exists()
    forced = on(there, "push", here, "--force")
    assert forced.exit_code == 1
    assert "broken" in forced.stdout


def test_push_takes_partials_before_the_prompts_that_include_them(here: Path, there: Path) -> None:
    (here / "_tone.md").write_text("Be brief.")
    (here / PROMPT).write_text('{% include "_tone.md" %}')
    assert on(there, "push", here).exit_code == 0
    assert list(shown(there)["partials"]) == ["_tone.md"]


def test_list_and_show_tell_what_the_api_tells(here: Path, there: Path) -> None:
    pushed(here, there, GOOD)
    (listed,) = json.loads(on(there, "list", "--json").stdout)
    assert listed["required_variables"] == ["user.name"]
    assert PROMPT in on(there, "list").stdout
    assert "Greets." in on(there, "show", "a").stdout
    assert json.loads(on(there, "list", "elsewhere", "--json").stdout) == []


def test_diff_compares_the_current_version_with_the_one_before(here: Path, there: Path) -> None:
    first, second = pushed(here, there, GOOD, GOOD.replace("kind", "brief"))
    result = on(there, "diff", PROMPT)
    assert "-Be kind." in result.stdout
    assert "+Be brief." in result.stdout
    assert on(there, "diff", PROMPT, second, first).stdout.count("+Be kind.") == 1


def test_a_label_is_set_split_rolled_back_and_taken_away(here: Path, there: Path) -> None:
    first, second = pushed(here, there, GOOD, GOOD.replace("kind", "brief"))
    assert first in on(there, "label", PROMPT, "production", first).stdout
    on(there, "label", PROMPT, "production", first, "--canary", "current", "--percent", 10)
    assert production(there) == [{"version": first, "percent": 90}, {"version": second, "percent": 10}]
    assert on(there, "rollback", PROMPT).exit_code == 0
    assert production(there) == [{"version": first, "percent": 100}]
    on(there, "rollback", PROMPT)
    assert len(production(there)) == 2
    on(there, "rollback", PROMPT, "--to", second)
    assert production(there) == [{"version": second, "percent": 100}]
    assert on(there, "label", PROMPT, "production", "--remove").exit_code == 0
    assert production(there) is None


def test_the_history_tells_versions_and_who_moved_which_label(here: Path, there: Path) -> None:
    first, second = pushed(here, there, GOOD, GOOD.replace("kind", "brief"))
    on(there, "label", PROMPT, "production", first)
    told = on(there, "history", PROMPT)
    assert told.exit_code == 0
    assert "production" in told.stdout
    answer = json.loads(on(there, "history", PROMPT, "--json").stdout)
    assert answer["current"] == second
    assert {v["version"] for v in answer["versions"]} == {first, second}
    assert [(m["label"], m["before"]) for m in answer["moves"]] == [("production", [])]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["label", PROMPT, "production", "nope"], "no such version"),
        (["label", PROMPT, "Production", "current"], "small letter"),
        (["label", PROMPT, "production"], "--remove"),
        (
            ["label", PROMPT, "production", "current", "--canary", "current", "--percent", "5"],
            "another version",
        ),
        (["rollback", PROMPT], "never pointed to anything else"),
        (["show", "absent"], "no prompt 'absent'"),
        (["diff", PROMPT], "no two versions"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(
    here: Path, there: Path, arguments: Sequence[str], told: str
) -> None:
    pushed(here, there, GOOD)
    result = on(there, *arguments)
    assert result.exit_code == 1
    assert told in refusal(result)


def test_a_broken_version_takes_no_label(here: Path, there: Path) -> None:
    pushed(here, there, GOOD)
    (there / PROMPT).write_text("{% if %}")
    (broken,) = [item for item in shown(there)["history"] if item["error"]]
    assert "is broken" in refusal(on(there, "label", PROMPT, "production", broken["version"]))


def test_a_move_that_somebody_else_came_before_is_refused_and_tells_what_is_there(
    here: Path, there: Path
) -> None:
    (version,) = pushed(here, there, GOOD)

    class Raced(FolderPromptIndex):
        @override
        async def move_label(self, move: LabelMove, seen: Labels) -> bool:
            other = LabelMove(move.path, move.label, (), shares_of(["theirs"]), NOON, "bo")
            await super().move_label(other, seen)
            return await super().move_label(move, seen)

    def stores(place: Place) -> PromptStores:
        files, index = FolderPromptFiles(there), Raced(there)

        async def user() -> str:
            return "ada"

        return PromptStores(index, files, PromptIndexer(files, index, 10_000, lambda: NOON), user)

    result = run("label", PROMPT, "production", version, app=create_app(stores))
    assert "is now theirs" in refusal(result)


def test_without_a_place_the_command_says_how_to_name_one() -> None:
    assert "--folder" in refusal(run("list"))
    with pytest.raises(GatewayError, match="--stack"):
        open_stores(Place())


@pytest.mark.parametrize(
    "command", ["lint", "render", "push", "list", "show", "history", "diff", "label", "rollback"]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "llm-gateway" in result.stdout


def test_what_cannot_be_looked_at_or_read_is_a_sentence(here: Path) -> None:
    long = here / f"{'x' * 300}.md"
    os.mkfifo(here / "pipe")
    (here / "plain.md").write_text("Hi {{ name }}")
    for arguments in (
        ["lint", long],
        ["render", long],
        ["render", here / "plain.md", "--vars", here / "pipe"],
    ):
        assert "cannot be read: " in refusal(run(*arguments))
