"""Nothing leaks from the gateway as one process, over HTTP and gRPC, into its log and its usage file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.json_format import ParseDict
from pytest_socket import enable_socket

from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2, llm_gateway_pb2_grpc
from tests import upstream as loopback
from tests.entrypoints.server.serving import OPEN, PATIENCE_S, Serving, serving
from tests.security.canaries import Canaries, call_full_of
from tests.security.test_canaries import OWN_WORDS, PATHS
from tests.upstream import Upstream

CHOSEN = [
    "an answer", "status 401", "status 429", "status 500", "no JSON", "half of an answer",
    "an answer that does not fit", "a refusal",
]  # fmt: skip


@dataclass
class House:
    """The process, the vendor behind it, and the canaries around both."""

    process: Serving
    vendor: Upstream
    canaries: Canaries

    def over_http(self, call: dict[str, Any]) -> str:
        c = self.canaries
        headers = {"authorization": f"Bearer {c['gateway key']}", "cookie": c["cookie"], "x-any": c["header"]}
        url = f"{self.process.url}/v1/call?{c['query name']}={c['query value']}"
        answer = httpx2.post(url, json=call, headers=headers, timeout=PATIENCE_S)
        return f"{answer.headers} {answer.text}"

    def over_grpc(self, call: dict[str, Any]) -> str:
        c = self.canaries
        sent = (("authorization", f"Bearer {c['gateway key']}"), ("x-any", c["header"]))
        with grpc.insecure_channel(self.process.grpc_address) as channel:
            method = llm_gateway_pb2_grpc.LlmGatewayStub(channel).CallPrompt
            request = ParseDict(call, llm_gateway_pb2.CallPromptRequest())
            try:
                return str(method(request, timeout=PATIENCE_S, metadata=sent))
            except grpc.RpcError as error:
                return f"{error} {error.trailing_metadata()}"

    def traces(self) -> tuple[str, bytes]:
        """The log, and every byte of the usage file."""
        files = sorted(self.process.log.parent.glob("usage.db*"))
        return self.process.log.read_text(), b"".join(file.read_bytes() for file in files)


DOORS: dict[str, Callable[[House, dict[str, Any]], str]] = {"HTTP": House.over_http, "gRPC": House.over_grpc}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    enable_socket()
    folder, canaries = tmp_path_factory.mktemp("leaks"), Canaries()
    (folder / "prompts").mkdir()
    text = f"system:\n{canaries['prompt text']}\nuser:\n{{{{ who }}}}"
    (folder / "prompts" / "secret.md").write_text(text, encoding="utf-8")
    with loopback.running() as vendor:
        settings = {
            **OPEN,
            "LLM_GATEWAY_LOG_LEVEL": "DEBUG",
            "LLM_GATEWAY_RETRY_LIMIT": "0",
            "LLM_GATEWAY_OPENAI_BASE_URL": vendor.url,
            "LLM_GATEWAY_OPENAI_API_KEY": canaries["provider key"],
        }
        with serving(folder, settings) as process:
            yield House(process, vendor, canaries)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("path", CHOSEN)
def test_a_call_leaves_no_content_in_log_and_usage_file(house: House, door: str, path: str) -> None:
    enable_socket()
    c = house.canaries
    house.vendor.forget()
    house.vendor.answers(PATHS[path](c))
    told = DOORS[door](house, call_full_of(house.canaries))
    sent = json.dumps(house.vendor.requests) + str(house.vendor.keys)
    assert {"prompt text", "variable", "provider key"} <= set(c.places_in(sent))
    own = ("answer", "property") if path == "an answer" else ()
    assert c.places_in(told, "correlation id", *own) == []
    log, kept = house.traces()
    assert c.places_in(log, "correlation id") == []
    assert c.places_in(kept.decode("latin-1"), *OWN_WORDS) == []
    assert c["metadata value"].encode() in kept


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "changes", [{"prompt": "/bad"}, {"model": "bad"}, {"variables": {}}, {"timeout_s": 1}, {"label": " "}]
)
def test_a_refusal_leaves_no_content_either(house: House, door: str, changes: dict[str, Any]) -> None:
    enable_socket()
    house.vendor.forget()
    given = call_full_of(house.canaries, **changes)
    if door == "gRPC" and (seconds := given.pop("timeout_s", None)) is not None:
        given["timeout"] = f"{seconds}s"
    told = DOORS[door](house, given)
    assert house.canaries.places_in(told, "correlation id", "metadata name") == []
    log, kept = house.traces()
    assert house.canaries.places_in(log, "correlation id") == []
    assert house.canaries.places_in(kept.decode("latin-1"), *OWN_WORDS) == []
    assert house.vendor.requests == []


def test_an_idempotency_key_and_its_answer_are_not_to_be_read_in_the_file(
    house: House, tmp_path: Path
) -> None:
    enable_socket()
    c = house.canaries
    house.vendor.answers(PATHS["an answer"](c))
    house.over_http(call_full_of(house.canaries, idempotency_key=c["idempotency key"]))
    log, kept = house.traces()
    assert c.places_in(log, "correlation id") == []
    assert c.places_in(kept.decode("latin-1"), *OWN_WORDS) == []
