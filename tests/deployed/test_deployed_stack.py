"""The deployed template on the local AWS, its permissions enforced."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
from llm_gateway.entrypoints.command_line.app import create_app
from llm_gateway.prompts.catalogue.labels import LabelMove, shares_of
from local_aws.emulator import ROOT
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import STACK_NAME, Stack
from tests.contract.tables import client

pytestmark = pytest.mark.aws

REPLY = "---\ndescription: Replies.\n---\nsystem:\nBe kind.\nuser:\n{{ user.name }}: {{ ticket }}\n"
VARIABLES = {"user": {"name": "Ada"}, "ticket": "CANARY-5d1f late parcel"}


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Stack:
    """The stack with one prompt, indexed by its event."""
    upload(stack, "support/reply.prompt", REPLY)
    return stack


def upload(stack: Stack, path: str, text: str) -> str:
    """Upload, and wait until the event has reached the index; the version that is served then."""
    return str(upload_and_wait(stack, path, text.encode())["version"])


def call(stack: Stack, **changes: Any) -> Any:
    request = {"prompt": "support/reply", "variables": VARIABLES, "calling_service": "tests", **changes}
    return stack.request("POST", "/v1/call", body=request)


def usage(stack: Stack, **query: str) -> dict[str, Any]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = (moment.isoformat().replace("+00:00", "Z") for moment in (today, today + timedelta(days=2)))
    text = "".join(f"&{name}={value}" for name, value in query.items())
    body: dict[str, Any] = stack.request("GET", f"/v1/usage?start={start}&end={end}{text}").json()
    return body


def test_a_prompt_in_the_bucket_is_listed_described_and_called(gateway: Stack) -> None:
    listed = gateway.request("GET", "/v1/prompts?directory=support").json()
    assert "support/reply.prompt" in [p["path"] for p in listed["prompts"]]
    described = gateway.request("GET", "/v1/prompts/support/reply").json()
    assert described["required_variables"] == ["user.name", "ticket"]
    answered = call(gateway)
    assert answered.status_code == 200
    assert answered.json()["prompt"] == {
        "path": "support/reply.prompt", "version": described["version"], "label": None,
    }  # fmt: skip


def test_readiness_reaches_every_store_with_its_own_permissions(gateway: Stack) -> None:
    assert gateway.request("GET", "/health/ready", key="").json() == {"status": "ready"}


def test_a_direct_invoke_gives_the_same_as_http(gateway: Stack) -> None:
    over_http = call(gateway).json()
    direct = gateway.invoke({"prompt": "support/reply", "variables": VARIABLES})
    same = ("text", "finish_reason", "prompt", "model", "usage", "cost_usd", "test_mode")
    assert {name: direct[name] for name in same} == {name: over_http[name] for name in same}


@pytest.mark.parametrize("payload", [None, [], 7, "x", {}, {"prompt": "absent"}])
def test_a_bad_invoke_is_answered_and_not_raised(gateway: Stack, payload: object) -> None:
    assert gateway.invoke(payload)["error"]["type"] in ("invalid_request_error", "not_found_error")


def test_an_edit_is_served_within_the_ttl_and_the_old_version_can_be_pinned(gateway: Stack) -> None:
    first = upload(gateway, "edit/me.md", "One {{ name }}")
    request = {"prompt": "edit/me", "variables": {"name": "Ada"}}
    before = gateway.request("POST", "/v1/call", body=request).json()
    second = gateway.upload("edit/me.md", b"Two, and longer: {{ name }}")

    def served() -> str:
        return str(gateway.request("POST", "/v1/call", body=request).json()["prompt"]["version"])

    wait_until(lambda: served() == second, "the edit is served")
    after = gateway.request("POST", "/v1/call", body=request).json()
    pinned = gateway.request("POST", "/v1/call", body={**request, "version": first}).json()
    assert after["text"] != before["text"] == pinned["text"]
    assert pinned["prompt"]["version"] == first


def test_a_broken_upload_is_told_and_the_last_good_version_stays(gateway: Stack) -> None:
    good = upload(gateway, "edit/break.md", "Good {{ name }}")
    upload(gateway, "edit/break.md", "Bad {% if %}")
    metadata = gateway.request("GET", "/v1/prompts/edit/break.md").json()
    assert (metadata["state"], metadata["version"]) == ("broken", good)
    assert metadata["error"].startswith("line 1:")
    answer = gateway.request("POST", "/v1/call", body={"prompt": "edit/break", "variables": {"name": "A"}})
    assert answer.json()["prompt"]["version"] == good


def test_a_deleted_prompt_is_gone(gateway: Stack) -> None:
    upload(gateway, "edit/gone.md", "Here")
    gateway.s3.delete_object(Bucket=gateway.outputs["PromptBucketName"], Key="edit/gone.md")
    metadata = "/v1/prompts/edit/gone.md"
    wait_until(lambda: gateway.request("GET", metadata).status_code == 404, "the deletion is indexed")
    error = gateway.request("POST", "/v1/call", body={"prompt": "edit/gone.md"}).json()["error"]
    assert error["code"] == "prompt_not_found"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/call", b"{", 400, "malformed_json"),
        ("POST", "/v1/call", {"prompt": "../secret"}, 400, "invalid_prompt_path"),
        ("POST", "/v1/call", {"prompt": "support/reply", "timeout_s": 1}, 400, "invalid_parameter"),
        ("POST", "/v1/call", {"prompt": "support/reply", "variables": {}}, 400, "missing_variables"),
        ("POST", "/v1/call", {"prompt": "support/reply", "model": "gpt-none"}, 400, "unknown_model"),
        ("POST", "/v1/call", {"prompt": "support/reply", "version": "v0"}, 404, "prompt_not_found"),
        ("POST", "/v1/call", {"prompt": "x", "pad": "x" * 1_200_000}, 413, "body_too_large"),
        ("GET", "/v1/prompts/%2e%2e%2fsecret.txt", None, 400, "invalid_prompt_path"),
        ("GET", "/v1/prompts/absent.txt", None, 404, "prompt_not_found"),
        ("GET", "/v1/prompts?limit=0", None, 400, "invalid_parameter"),
        ("GET", "/v1/usage", None, 400, "invalid_request"),
    ],
)
def test_bad_input_is_a_4xx_with_a_stable_code(
    gateway: Stack, method: str, path: str, body: object, status: int, code: str
) -> None:
    response = gateway.request(method, path, body=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_statistics_equal_the_answers_of_parallel_calls(gateway: Stack) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = [r.json() for r in pool.map(lambda _: call(gateway, calling_service="parallel"), range(24))]
    failed = gateway.request(
        "POST", "/v1/call", body={"prompt": "support/reply", "variables": {}, "calling_service": "parallel"}
    )
    assert failed.status_code == 400
    totals: dict[str, Any] = {}

    def counted() -> bool:
        totals.update(usage(gateway, calling_service="parallel")["totals"])
        return bool(totals["requests"] >= len(answers))

    wait_until(counted, "every call is counted")
    assert totals["requests"] == len(answers)
    for name in ("input_tokens", "output_tokens"):
        assert totals[name] == sum(answer["usage"][name] for answer in answers)
    assert Decimal(totals["cost_usd"]) == sum(Decimal(answer["cost_usd"]) for answer in answers)
    assert totals["errors"] == 0


def test_the_log_names_the_call_and_holds_no_content(gateway: Stack) -> None:
    answer = call(gateway).json()

    def lines() -> list[dict[str, Any]]:
        return [line for line in gateway.log_lines() if line.get("call_id") == answer["call_id"]]

    wait_until(lambda: bool(lines()), "the call is logged")
    [line] = lines()
    assert line["prompt"] == "support/reply.prompt"
    assert line["input_tokens"] == answer["usage"]["input_tokens"]
    everything = json.dumps(list(gateway.log_lines()))
    assert "CANARY-5d1f" not in everything
    assert answer["text"] not in everything


def test_the_functions_run_on_the_layers_own_libraries(gateway: Stack) -> None:
    """The emulator's interpreter has a boto3 and a pydantic, too; the pinned ones must win."""
    code = (
        "import boto3, pydantic\n"
        "def handler(event, context):\n"
        "    return {m.__name__: [m.__version__, m.__file__] for m in (boto3, pydantic)}\n"
    )
    pinned = (ROOT / "layers" / "dependencies" / "requirements.txt").read_text()
    for name, (version, path) in run_on_the_layers(gateway, code).items():
        assert "layer" in path
        assert f"{name}=={version} " in pinned


def run_on_the_layers(stack: Stack, code: str) -> dict[str, Any]:
    """Run `code` as a function of its own on the layers of call_prompt."""
    functions = stack.functions
    deployed = functions.get_function_configuration(FunctionName=stack.outputs["CallPromptFunctionName"])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("probe.py", code)
    functions.create_function(
        FunctionName="probe",
        Runtime="python3.13",
        Role=deployed["Role"],
        Handler="probe.handler",
        Code={"ZipFile": archive.getvalue()},
        Layers=[layer["Arn"] for layer in deployed["Layers"]],
        Timeout=30,
    )
    try:
        answer = functions.invoke(FunctionName="probe")["Payload"].read()
    finally:
        functions.delete_function(FunctionName="probe")
    result: dict[str, Any] = json.loads(answer)
    return result


def entry(stack: Stack, path: str) -> Any:
    return stack.request("GET", f"/v1/prompts/{path}").json()


def test_deleting_a_version_for_good_revives_the_one_before(gateway: Stack) -> None:
    first = upload(gateway, "edit/revive.md", "First")
    second = upload(gateway, "edit/revive.md", "Second, and longer")
    bucket = gateway.outputs["PromptBucketName"]
    gateway.s3.delete_object(Bucket=bucket, Key="edit/revive.md", VersionId=second)
    wait_until(lambda: entry(gateway, "edit/revive.md")["version"] == first, "the first is back")


def test_undoing_a_deletion_brings_the_prompt_back(gateway: Stack) -> None:
    version = upload(gateway, "edit/undo.md", "Here again")
    bucket, path = gateway.outputs["PromptBucketName"], "/v1/prompts/edit/undo.md"
    marker = gateway.s3.delete_object(Bucket=bucket, Key="edit/undo.md")["VersionId"]
    wait_until(lambda: gateway.request("GET", path).status_code == 404, "the deletion is indexed")
    gateway.s3.delete_object(Bucket=bucket, Key="edit/undo.md", VersionId=marker)
    wait_until(lambda: gateway.request("GET", path).status_code == 200, "the deletion is undone")
    assert entry(gateway, "edit/undo.md")["version"] == version


def test_two_broken_uploads_leave_the_good_one_before_them_and_a_repair_heals(gateway: Stack) -> None:
    good = upload(gateway, "edit/heal.md", "Good {{ name }}")
    for text in ("{% if %}", "{% for %} and longer"):
        upload(gateway, "edit/heal.md", text)
    assert (entry(gateway, "edit/heal.md")["state"], entry(gateway, "edit/heal.md")["version"]) == (
        "broken",
        good,
    )
    healed = upload(gateway, "edit/heal.md", "Healed, dear {{ name }}")
    assert entry(gateway, "edit/heal.md")["state"] == "ok"
    assert healed != good


def test_an_old_event_delivered_again_changes_nothing(gateway: Stack) -> None:
    version = upload(gateway, "edit/again.md", "Newest")
    event = json.loads((ROOT / "events" / "index_prompt_created.json").read_text())
    event["Records"][0]["s3"]["object"] |= {"key": "edit/again.md", "sequencer": "00"}
    answer = gateway.functions.invoke(
        FunctionName=function_named(gateway, "IndexPrompt"), Payload=json.dumps(event)
    )
    assert json.loads(answer["Payload"].read()) == {"outdated": 1}
    assert entry(gateway, "edit/again.md")["version"] == version


def test_a_lost_event_costs_no_correctness(gateway: Stack) -> None:
    """The entry is taken out behind the functions' back, as if its event had never come."""
    version = upload(gateway, "edit/lost.md", "Still in the bucket")
    dynamodb = client("dynamodb", gateway.emulator)
    [table] = [name for name in dynamodb.list_tables()["TableNames"] if "llm-gateway-PromptTable" in name]
    dynamodb.delete_item(TableName=table, Key={"pk": {"S": "prompt"}, "sk": {"S": "edit/lost.md"}})
    assert gateway.request("GET", "/v1/prompts/edit/lost.md").status_code == 404
    answer = gateway.functions.invoke(FunctionName=gateway.outputs["ReconcileFunctionName"], Payload="{}")
    assert json.loads(answer["Payload"].read())["repaired"] >= 1
    assert entry(gateway, "edit/lost.md")["version"] == version


def function_named(stack: Stack, part: str) -> str:
    names = [f["FunctionName"] for f in stack.functions.list_functions()["Functions"]]
    [name] = [name for name in names if part in name]
    return name


def test_an_edited_partial_is_served_and_one_that_breaks_is_reported_and_not_served(gateway: Stack) -> None:
    gateway.upload("_shared/tone.md", b"Be kind.")
    first = upload(gateway, "edit/tone.md", '{% include "_shared/tone.md" %} {{ name }}')
    request = {"prompt": "edit/tone", "variables": {"name": "Ada"}}

    def metadata() -> Any:
        return gateway.request("GET", "/v1/prompts/edit/tone.md").json()

    gateway.upload("_shared/tone.md", b"Be kind, and brief.")
    wait_until(lambda: bool(metadata()["version"] != first), "the partial's edit is indexed")
    second = metadata()["version"]
    gateway.upload("_shared/tone.md", b"{% if %}")
    wait_until(lambda: bool(metadata()["state"] == "broken"), "the broken partial is reported")
    assert metadata()["version"] == second
    assert "_shared/tone.md line 1" in metadata()["error"]
    answers = [
        gateway.request("POST", "/v1/call", body={**request, "version": version}).json()
        for version in (first, second)
    ]
    assert [answer["prompt"]["version"] for answer in answers] == [first, second]
    assert answers[0]["text"] != answers[1]["text"]


def test_a_label_serves_its_versions_and_a_canary_is_sticky_and_can_be_taken_back(gateway: Stack) -> None:
    stable = upload(gateway, "edit/label.md", "One {{ name }}")
    canary = upload(gateway, "edit/label.md", "Two, and longer: {{ name }}")
    index = DynamoPromptIndex(client("dynamodb", gateway.emulator), gateway.outputs["PromptTableName"])

    def move(*versions: str, percent: int | None = None) -> None:
        seen = asyncio.run(index.labels("edit/label.md"))
        before, after = seen.shares.get("production", ()), shares_of(versions, percent)
        step = LabelMove("edit/label.md", "production", before, after, datetime.now(UTC), "tests")
        assert asyncio.run(index.move_label(step, seen))

    def served(key: str) -> str:
        request = {"prompt": "edit/label", "variables": {"name": "Ada"}, "label": "production"}
        answer = gateway.request("POST", "/v1/call", body={**request, "sticky_key": key})
        return str(answer.json()["prompt"]["version"])

    move(stable)
    wait_until(lambda: served("anyone") == stable, "the label is served")
    move(stable, canary, percent=50)
    keys = [f"caller-{n}" for n in range(12)]
    wait_until(lambda: {served(key) for key in keys} == {stable, canary}, "the canary is served")
    time.sleep(1.5)  # every environment has looked again by now
    assert [served(key) for key in keys] == [served(key) for key in keys]
    move(stable)
    wait_until(lambda: {served(key) for key in keys} == {stable}, "the canary is taken back")
    described = gateway.request("GET", "/v1/prompts/edit/label").json()
    assert described["labels"] == {"production": [{"version": stable, "percent": 100}]}
    assert {item["version"] for item in described["history"]} == {stable, canary}


def test_the_command_line_works_on_a_stack_by_its_name(
    gateway: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in gateway.command_environment.items():
        if not name.startswith("LLM_GATEWAY_"):
            monkeypatch.setenv(name, value)
    file = tmp_path / "prompts" / "edit" / "pushed.md"
    file.parent.mkdir(parents=True)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(create_app(), ["--stack", STACK_NAME, *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    for text in ("One {{ name }}", "Two {{ name }}"):
        file.write_text(text)
        assert "it needs name" in run("push", str(file))
    assert "-One" in run("diff", "edit/pushed")
    run("label", "edit/pushed", "production", "current")
    (move,) = json.loads(run("history", "edit/pushed", "--json"))["moves"]
    assert move["moved_by"].startswith("arn:")
    assert "edit/pushed.md" in run("list", "edit")


def test_a_mock_s_errors_are_retried_in_test_mode(gateway: Stack) -> None:
    front = (
        "---\nmodel: openai/gpt-4o\ngateway.fallbacks: [openai/gpt-4o-mini]\n"
        "gateway.mock: {answer: mocked, errors: [provider_unavailable]}\n---\n{{ name }}"
    )
    upload(gateway, "edit/mocked.md", front)
    answer = gateway.request("POST", "/v1/call", body={"prompt": "edit/mocked", "variables": {"name": "x"}})
    assert (answer.json()["text"], answer.json()["attempts"]) == ("mocked", 2)
