"""Prompt authors and operators: the command line with nothing but their policies of the stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llm_gateway.entrypoints.command_line.app import create_app
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import STACK_NAME, Stack
from tests.deployed.acting_as import TABLES, Resources, Role, administrator, make_neighbours, operations, user

pytestmark = pytest.mark.aws
Command = Callable[..., Result]

AUTHORS_MAY = {
    *("prompts:read", "prompts:read version", "prompts:list", "prompts:list versions"),
    *("prompts:write", "prompts:delete"),
    *("PromptTable:get", "PromptTable:query", "PromptTable:put", "PromptTable:update"),
    "stack:describe",
}
OPERATORS_MAY = {
    *("KeyTable:get", "KeyTable:scan", "KeyTable:put", "KeyTable:update", "KeyPepper:read", "OpenAIKey:put"),
    *("UsageTable:query", "UsageTable:put", "UsageTable:update"),
    *("CallPromptLogs:read", "stack:describe"),
}


@pytest.fixture(scope="module")
def author(stack: Stack) -> Role:
    return user(stack, "author", stack.outputs["PromptAuthorsPolicyArn"])


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Role:
    return user(stack, "operator", stack.outputs["OperatorsPolicyArn"])


@pytest.fixture
def as_role(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[Role], Command]:
    """The command line under somebody's credentials."""

    def commands_of(role: Role) -> Command:
        monkeypatch.setenv("AWS_ENDPOINT_URL", role.arguments["endpoint_url"])
        monkeypatch.setenv("AWS_DEFAULT_REGION", role.arguments["region_name"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", role.arguments["aws_access_key_id"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", role.arguments["aws_secret_access_key"])

        def command(*arguments: str, given: str | None = None) -> Result:
            return CliRunner().invoke(create_app(), ["--stack", STACK_NAME, *arguments], input=given)

        return command

    return commands_of


def ok(done: Result) -> str:
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def refused(done: Result) -> None:
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output


def test_authors_and_operators_may_do_their_work_and_nothing_else(
    stack: Stack, author: Role, operator: Role
) -> None:
    make_neighbours(stack)
    tried = operations(Resources.of(stack), "another-bus")
    for role, rights in ((author, AUTHORS_MAY), (operator, OPERATORS_MAY)):
        denied = {name for name in tried.keys() - rights if role.may(tried[name])}
        assert denied == set()
        assert {name for name in rights if role.may(tried[name])} == rights
    for table in TABLES:  # what was written there is no key and no call
        assert administrator(stack).may(tried[f"{table}:delete"])


def test_an_author_writes_a_prompt_moves_its_label_and_rolls_back(
    stack: Stack, author: Role, as_role: Callable[[Role], Command], tmp_path: Path
) -> None:
    command = as_role(author)
    file = tmp_path / "prompts" / "authors" / "note.prompt"
    file.parent.mkdir(parents=True)
    versions: list[str] = []
    for text in ("First {{ word }}.", "Second {{ word }}."):
        file.write_text(text)
        ok(command("push", str(file)))
        ok(command("label", "authors/note.prompt", "production", "current"))
        versions.append(stack.request("GET", "/v1/prompts/authors/note.prompt").json()["version"])
    call = {"prompt": "authors/note.prompt", "label": "production", "variables": {"word": "x"}}
    ok(command("rollback", "authors/note.prompt", "production"))

    def rolled_back() -> bool:
        answer = stack.request("POST", "/v1/call", body=call).json()
        return bool(answer["prompt"]["version"] == versions[0])

    wait_until(rolled_back, "the first version is served again")
    assert "author" in ok(command("history", "authors/note.prompt"))
    assert "Second" in ok(command("diff", "authors/note.prompt"))
    assert "authors/note.prompt" in ok(command("list", "authors"))
    assert "word" in ok(command("show", "authors/note.prompt"))


def test_an_author_makes_no_keys_and_sees_no_usage(author: Role, as_role: Callable[[Role], Command]) -> None:
    command = as_role(author)
    refused(command("keys", "create", "mine"))
    refused(command("keys", "list"))
    refused(command("usage", "show"))


def test_an_operator_makes_lists_rotates_and_ends_keys(
    stack: Stack, operator: Role, as_role: Callable[[Role], Command]
) -> None:
    command = as_role(operator)
    old = ok(command("keys", "create", "operated-service"))
    new = ok(command("keys", "rotate", old))
    assert stack.request("GET", "/v1/models", key=new).status_code == 200
    ok(command("keys", "revoke", new))
    listed = json.loads(ok(command("keys", "list", "--json")))
    assert {"revoked"} <= {key["state"] for key in listed if key["service"] == "operated-service"}


def test_an_operator_sees_exports_recovers_and_rebuilds_usage(
    stack: Stack, operator: Role, as_role: Callable[[Role], Command]
) -> None:
    command = as_role(operator)
    upload_and_wait(stack, "operators/hello.md", b"Hello {{ name }}.")
    call = {"prompt": "operators/hello", "variables": {"name": "x"}, "calling_service": "operated"}
    call_id = stack.request("POST", "/v1/call", body=call).json()["call_id"]
    now = datetime.now(UTC)
    a_day = (
        "--start",
        f"{now - timedelta(days=1):%Y-%m-%dT%H:00}",
        "--end",
        f"{now + timedelta(hours=1):%Y-%m-%dT%H:00}",
    )
    assert call_id in ok(command("usage", "export", *a_day))
    wait_until(lambda: "operated" in ok(command("usage", "show", "--by", "service")), "the call is counted")
    lines = [line for line in stack.log_lines() if line.get("call_id") == call_id]
    lost = {**lines[0], "message": "usage not recorded", "call_id": "0" * 32}
    ok(command("usage", "recover", given=json.dumps(lost)))
    assert "0" * 32 in ok(command("usage", "export", *a_day))
    ok(
        command(
            "usage", "rebuild", "--start", f"{now - timedelta(days=2):%Y-%m-%d}", "--end", f"{now:%Y-%m-%d}"
        )
    )


def test_an_operator_reads_and_writes_no_prompt(
    operator: Role, as_role: Callable[[Role], Command], tmp_path: Path
) -> None:
    command = as_role(operator)
    file = tmp_path / "mine.prompt"
    file.write_text("Mine.")
    refused(command("push", str(file)))
    refused(command("list"))
    refused(command("rollback", "authors/note.prompt", "production"))
