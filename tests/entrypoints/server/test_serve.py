"""The gateway as one process: what it announces, serves, counts and follows."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2, llm_gateway_pb2_grpc
from tests import upstream
from tests.entrypoints.server.serving import (
    CALL,
    COMMAND,
    OPEN,
    PATIENCE_S,
    TEST_MODE,
    Serving,
    environment,
    serving,
)
from tests.upstream import Reply, Upstream, chat_completion, failure
from tests.urls import WRONG_REQUESTS

KEY = "sk-canary-4f1d9c"
GUARD = """
import sys

def guard(event, arguments):
    if event == "import" and arguments[0].partition(".")[0] in ("boto3", "botocore"):
        raise ImportError("this machine has no AWS")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] != "127.0.0.1":
        raise OSError("this machine has no network")

sys.addaudithook(guard)
"""


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with upstream.running() as running:
        yield running


@pytest.fixture(scope="module")
def server(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("serve"), live(model)) as running:
        yield running


def live(model: Upstream) -> dict[str, str]:
    return {**OPEN, "LLM_GATEWAY_OPENAI_BASE_URL": model.url, "LLM_GATEWAY_OPENAI_API_KEY": KEY}


def eventually(look: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def health_of(address: str, credentials: grpc.ChannelCredentials | None = None) -> int:
    options = [("grpc.ssl_target_name_override", "localhost")]
    with (
        grpc.secure_channel(address, credentials, options)
        if credentials
        else grpc.insecure_channel(address) as channel
    ):
        question = health_pb2.HealthCheckRequest(service="llm_gateway.v1.LlmGateway")
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(question, timeout=PATIENCE_S)  # type: ignore[attr-defined]
    return int(answer.status)


SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_one_line_tells_what_is_served(server: Serving) -> None:
    told = server.lines()[0]
    assert (told["message"], told["access"], told["test_mode"]) == ("serving", "open", False)
    assert (told["prompts"], told["prompts_broken"], told["providers"]) == (1, 0, ["openai"])
    assert told["http_port"] != told["grpc_port"]
    assert told["version"]


def test_a_call_is_answered_by_the_model_and_is_on_the_ledger(server: Serving, model: Upstream) -> None:
    before = server.usage()["totals"]["requests"]
    model.answers(Reply(body=chat_completion("Good day, Ada.")))
    answer = server.call()
    assert (answer.status_code, answer.json()["text"]) == (200, "Good day, Ada.")
    assert model.keys[-1] == f"Bearer {KEY}"
    assert model.requests[-1]["messages"] == [{"role": "user", "content": "Greet Ada."}]
    assert server.usage()["totals"]["requests"] == before + 1


def test_a_call_by_grpc_is_the_same_call(server: Serving, model: Upstream) -> None:
    before = server.usage()["totals"]["requests"]
    model.answers(Reply(body=chat_completion("Good day, Ada.")))
    request = llm_gateway_pb2.CallPromptRequest(prompt="hello", calling_service="shop")
    request.variables.update({"name": "Ada"})
    with grpc.insecure_channel(server.grpc_address) as channel:
        answer = llm_gateway_pb2_grpc.LlmGatewayStub(channel).CallPrompt(request, timeout=PATIENCE_S)
    assert answer.text == "Good day, Ada."
    assert server.usage()["totals"]["requests"] == before + 1


def test_the_command_line_calls_by_grpc(server: Serving, model: Upstream, tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "call", *arguments, "--address", server.grpc_address]
        given = environment(tmp_path, {})
        return subprocess.run(command, env=given, capture_output=True, text=True, check=False)

    model.answers(Reply(body=chat_completion("Good day, Bob.")))
    assert call("hello", "--var", "name=Bob").stdout == "Good day, Bob.\n"
    refused = call("missing")
    assert (refused.returncode, refused.stderr.partition(":")[0]) == (1, "NOT_FOUND")


def test_both_doors_say_that_it_is_ready(server: Serving) -> None:
    eventually(lambda: server.get("/health/ready").json()["status"] == "ready")
    assert health_of(server.grpc_address) == SERVING


def test_a_changed_prompt_is_served_without_a_restart(server: Serving, model: Upstream) -> None:
    folder = server.log.parent / "prompts"
    (folder / "fresh.md").write_text("Version one.")
    eventually(lambda: server.call(prompt="fresh").status_code == 200)
    (folder / "fresh.md").write_text("Version two.")

    def changed() -> bool:
        assert server.call(prompt="fresh").status_code == 200
        return bool(model.requests[-1]["messages"][0]["content"] == "Version two.")

    eventually(changed)
    (folder / "fresh.md").unlink()
    eventually(lambda: server.call(prompt="fresh").status_code == 404)


def test_a_folder_behind_a_link_is_followed_and_its_loss_is_an_outage_that_ends(tmp_path: Path) -> None:
    for release in ("a", "b"):
        folder = tmp_path / release / "prompts"
        folder.mkdir(parents=True)
        (folder / "hello.prompt").write_text(f"Release {release}.")
    current = tmp_path / "current"
    current.symlink_to("a")
    (tmp_path / "next").symlink_to("b")
    with serving(tmp_path, {**TEST_MODE, "LLM_GATEWAY_PROMPT_FOLDER": f"{current}/prompts"}) as server:

        def version() -> str:
            return str(server.get("/v1/prompts").json()["prompts"][0]["version"])

        first = version()
        (tmp_path / "next").replace(current)
        eventually(lambda: version() != first)
        second = version()
        shutil.rmtree(tmp_path / "b")
        eventually(lambda: server.get("/health/ready").status_code == 503)
        assert ["prompt_folder"] in [line.get("failed_checks") for line in server.lines()]
        assert metrics_of(server)["llm_gateway_prompt_folder_available"] == 0
        assert server.call(variables={}).status_code == 200, "though it was never called before"
        assert version() == second
        current.unlink()
        current.symlink_to("a")
        eventually(lambda: server.get("/health/ready").status_code == 200)
        assert version() == first
        told = [line for line in server.lines() if line["message"].startswith("prompt folder")]
        assert [line["level"] for line in told] == ["WARNING", "INFO"]


def test_metrics_count_calls_tokens_costs_requests_retries_and_prompts(
    server: Serving, model: Upstream
) -> None:
    before = metrics_of(server)
    model.answers(failure(429), Reply(body=chat_completion()))
    assert server.call().status_code == 200
    assert server.call(prompt="missing").status_code == 404
    after = metrics_of(server)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    openai = 'model="gpt-4o-mini",provider="openai"'
    assert grown[f'llm_gateway_calls_total{{{openai},status="answered"}}'] == 1
    assert grown[f'llm_gateway_tokens_total{{kind="input",{openai}}}'] == 1000
    assert grown[f'llm_gateway_tokens_total{{kind="cached_input",{openai}}}'] == 400
    assert grown[f"llm_gateway_cost_usd_total{{{openai}}}"] == pytest.approx(
        float(server.call().json()["cost_usd"])
    )
    assert grown[f"llm_gateway_call_duration_seconds_count{{{openai}}}"] == 1
    route = 'method="POST",route="/v1/call"'
    assert grown[f'llm_gateway_request_duration_seconds_count{{{route},status="200"}}'] == 1
    assert grown[f'llm_gateway_request_duration_seconds_count{{{route},status="404"}}'] == 1
    assert grown['llm_gateway_events_total{event="Retries",reason="provider_rate_limited"}'] == 1
    assert after["llm_gateway_prompts"] == 1
    assert after["llm_gateway_calls_in_flight"] == 0


def test_what_callers_invent_makes_no_series(server: Serving, model: Upstream) -> None:
    def invented(number: int) -> None:
        with socket.create_connection(("127.0.0.1", server.announced["http_port"])) as connection:
            connection.sendall(f"BREW{number} /v1/call HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        for method in ("PROPFIND", "MKCOL", "GET"):
            httpx2.request(method, f"{server.url}/nowhere/{number}")
        server.call(calling_service=f"invented-{number}", correlation_id=f"c-{number}")

    invented(0)
    malformed = 'llm_gateway_events_total{event="RequestErrors",reason="malformed_http"}'
    eventually(lambda: malformed in metrics_of(server))  # it is counted after the answer is sent
    before = metrics_of(server).keys()
    for number in range(1, 20):
        invented(number)
    assert metrics_of(server).keys() == before


def metrics_of(server: Serving) -> dict[str, float]:
    lines = [line for line in server.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_log_lines_are_json_without_a_key_or_a_text_or_metrics_for_another_system(server: Serving) -> None:
    assert server.call(variables={"name": "canary-name"}).status_code == 200
    assert any(line["message"] == "call answered" for line in server.lines())
    text = server.log.read_text()
    assert not any(secret in text for secret in (KEY, "canary-name", "Greet", "Hello.", "_aws"))


def test_a_process_that_answers_as_many_calls_as_it_may_refuses_one_more(
    model: Upstream, tmp_path: Path
) -> None:
    with serving(tmp_path, live(model), "--max-concurrent-calls", "1") as server:
        model.answers(Reply(body=chat_completion(), delay_s=2))
        asked = len(model.requests)
        with ThreadPoolExecutor(1) as caller:
            slow = caller.submit(server.call)
            eventually(lambda: len(model.requests) > asked)
            refused = server.call()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert slow.result().status_code == 200


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_key_that_is_refused_makes_it_not_ready_and_is_told(
    place: str, model: Upstream, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    given = live(model)
    if place == "file":
        del given["LLM_GATEWAY_OPENAI_API_KEY"]
        given["LLM_GATEWAY_OPENAI_API_KEY_FILE"] = str(tmp_path / "key")
    model.models = failure(401, "invalid_api_key")
    try:
        with serving(tmp_path, given) as server:
            eventually(lambda: server.get("/health/ready").status_code == 503)
            assert server.get("/health/ready").json() == {"status": "not_ready"}
            why = [line["failed_checks"] for line in server.lines() if line["message"] == "not ready"]
            assert why == [["provider_keys"]]
            eventually(lambda: health_of(server.grpc_address) == NOT_SERVING)
            assert server.get("/health").status_code == 200
            told = [line for line in server.lines() if line["message"] == "provider key refused"]
            assert (told[0]["provider"], told[0]["level"]) == ("openai", "WARNING")
            assert KEY not in server.log.read_text()
            model.models = Reply(body={"data": []})
            eventually(lambda: server.get("/health/ready").status_code == 200)
            eventually(lambda: health_of(server.grpc_address) == SERVING)
    finally:
        model.models = Reply(body={"data": []})


def test_a_vendor_that_cannot_be_reached_says_nothing_about_the_key(tmp_path: Path) -> None:
    unreachable = {"LLM_GATEWAY_OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "LLM_GATEWAY_OPENAI_API_KEY": KEY}
    with serving(tmp_path, {**OPEN, **unreachable}) as server:
        eventually(lambda: any(line["message"] == "provider key not checked" for line in server.lines()))
        assert server.get("/health/ready").status_code == 200


def test_it_needs_neither_aws_nor_a_network(tmp_path: Path) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    path = environment(tmp_path, {})["PYTHONPATH"]
    with serving(tmp_path, {**TEST_MODE, "PYTHONPATH": f"{guard}:{path}"}) as server:
        assert server.call(idempotency_key="once").json()["test_mode"] is True
        assert server.get("/health/ready").status_code == 200
        assert server.usage()["totals"]["requests"] == 1
        assert not [line for line in server.lines() if line["level"] == "ERROR"]
        assert server.stop() == 0
    refused = subprocess.run(
        [COMMAND, "--stack", "x", "list"],
        env={**environment(tmp_path, {}), "PYTHONPATH": f"{guard}:{path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "this machine has no AWS" in refused.stderr, "the guard guards"


def test_keys_budgets_and_sums_outlive_a_restart(tmp_path: Path) -> None:
    budget = {"LLM_GATEWAY_BUDGETS": json.dumps({"shop": {"day_tokens": 17_000}})}
    refused = False
    with serving(tmp_path, {**TEST_MODE, **budget}) as server:
        first = server.call(idempotency_key="order-1")
        for _ in range(300):
            refused = refused or server.call().status_code == 429
    with serving(tmp_path, {**TEST_MODE, **budget}) as server:
        again = server.call(idempotency_key="order-1")
        assert (again.json()["call_id"], again.json()["replayed"]) == (first.json()["call_id"], True)
        assert again.headers["idempotent-replayed"] == "true"
        assert refused
        assert server.call().json()["error"]["code"] == "budget_exceeded"
        assert server.usage()["totals"]["requests"] > 1


def test_with_gateway_keys_nobody_calls_without_one_by_either_door(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    made = subprocess.run(
        [COMMAND, "--key-file", str(keys), "keys", "create", "shop"],
        env=environment(tmp_path, {}),
        capture_output=True,
        text=True,
        check=True,
    )
    (key,) = re.findall(r"lgw_\w+", made.stdout)
    guarded = {**TEST_MODE, "LLM_GATEWAY_ACCESS": "keys", "LLM_GATEWAY_KEY_FILE": str(keys)}
    guarded["LLM_GATEWAY_KEY_CACHE_TTL_S"] = "0"
    request = llm_gateway_pb2.CallPromptRequest(prompt="hello")
    request.variables.update({"name": "Ada"})
    bearer = f"Bearer {key}"
    with serving(tmp_path, guarded) as server, grpc.insecure_channel(server.grpc_address) as channel:
        call = llm_gateway_pb2_grpc.LlmGatewayStub(channel).CallPrompt
        assert server.call().status_code == 401
        with pytest.raises(grpc.RpcError) as refused:
            call(request, timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        headers = {"authorization": bearer}
        assert httpx2.post(f"{server.url}/v1/call", json=CALL, headers=headers).status_code == 200
        assert call(request, timeout=PATIENCE_S, metadata=(("authorization", bearer),)).test_mode
        for path in ("/health", "/health/ready", "/metrics"):
            assert server.get(path).status_code == 200
        assert server.get("/health/ready").json() == {"status": "ready"}, (
            "anybody may ask, nobody learns more"
        )
        assert key not in server.log.read_text()
        for wrong in WRONG_REQUESTS:
            sent = headers if wrong.keyed else {}
            answer = httpx2.request(wrong.method, f"{server.url}{wrong.path}", headers=sent)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (wrong.status, wrong.code), wrong
            assert answer.headers.get("allow") == wrong.allow, wrong
            assert (error["request_id"], error["retryable"]) == (answer.headers["x-request-id"], False)
        head = httpx2.head(f"{server.url}/v1/models", headers=headers)
        assert (head.status_code, head.headers["allow"]) == (405, "GET")
        subprocess.run(
            [COMMAND, "--key-file", str(keys), "keys", "revoke", key],
            env=environment(tmp_path, {}),
            check=True,
            capture_output=True,
        )
        eventually(lambda: refusal(server, headers) == "key_revoked")
        with pytest.raises(grpc.RpcError) as revoked:
            call(request, timeout=PATIENCE_S, metadata=(("authorization", bearer),))
        assert revoked.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "was revoked" in str(revoked.value.details())


def refusal(server: Serving, headers: dict[str, str]) -> str | None:
    body = httpx2.get(f"{server.url}/v1/models", headers=headers).json()
    return str(body["error"]["code"]) if "error" in body else None


def test_both_ports_speak_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    openssl = shutil.which("openssl")
    assert openssl
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    tls = ("--tls-certificate-file", str(certificate), "--tls-key-file", str(key))
    with serving(tmp_path, TEST_MODE, *tls) as server:
        context = ssl.create_default_context(cafile=str(certificate))
        with httpx2.Client(verify=context) as client:
            assert client.get(f"{server.url}/health").status_code == 200
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        assert health_of(server.grpc_address, credentials) == SERVING
        variables = {
            "LLM_GATEWAY_HTTP_PORT": str(server.announced["http_port"]),
            "LLM_GATEWAY_TLS_CERTIFICATE_FILE": str(certificate),
            "LLM_GATEWAY_TLS_KEY_FILE": str(key),
        }
        asked = subprocess.run(
            [COMMAND, "health"], env=environment(tmp_path, variables), check=False, cwd=tmp_path
        )
        assert asked.returncode == 0


def test_a_health_check_fails_where_nothing_serves(tmp_path: Path) -> None:
    nobody = environment(tmp_path, {"LLM_GATEWAY_HTTP_PORT": "9"})
    assert subprocess.run([COMMAND, "health"], env=nobody, check=False, capture_output=True).returncode == 1


def test_metrics_can_be_turned_off(tmp_path: Path) -> None:
    with serving(tmp_path, {**TEST_MODE, "LLM_GATEWAY_METRICS_ENDPOINT": "false"}) as server:
        assert server.get("/metrics").status_code == 404
