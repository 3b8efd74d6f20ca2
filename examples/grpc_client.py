"""Calls a prompt over gRPC, with stubs made from proto/ as the program starts.

python examples/grpc_client.py                                          the sandbox or `llm-gateway serve`
TARGET=… KEY=… python examples/grpc_client.py "Where is my parcel?"     another server

It needs grpcio and grpcio-tools. A service of its own would rather keep generated stubs:

python -m grpc_tools.protoc -I proto --python_out . --grpc_python_out . llm_gateway/v1/llm_gateway.proto
"""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import grpc

TARGET = os.environ.get("TARGET", "127.0.0.1:50051")
KEY = os.environ.get("KEY")
# The gateway ends the call by then, retries and fallbacks included.
TIMEOUT_S = 60
# Not the folder above: a package `llm_gateway` may be installed here.
PROTO = Path(__file__).parent.parent / "proto" / "llm_gateway"


def main(ticket: str) -> None:
    """What there is, one call, and what it cost."""
    sys.path.insert(0, str(PROTO))
    messages, services = grpc.protos_and_services("v1/llm_gateway.proto")
    metadata = [("authorization", f"Bearer {KEY}")] if KEY else []
    with grpc.insecure_channel(TARGET) as channel:
        gateway = services.LlmGatewayStub(channel)
        listed = gateway.ListPrompts(
            messages.ListPromptsRequest(directory="support"), timeout=TIMEOUT_S, metadata=metadata
        )
        print("prompts:", ", ".join(prompt.path for prompt in listed.prompts))
        call = messages.CallPromptRequest(
            prompt="support/reply",
            variables={"user": {"name": "Ada"}, "ticket": ticket},
            calling_service=None if KEY else "examples",  # a key says itself whose it is
            # The same key again gives the same answer again, unpaid: safe to repeat after a lost connection.
            idempotency_key=str(uuid.uuid4()),
        )
        answer = gateway.CallPrompt(call, timeout=TIMEOUT_S, metadata=metadata)
    print("answer:", answer.text)
    print("model:", answer.model, "tokens:", answer.usage.total_tokens, "USD:", answer.cost_usd)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:] or ["Where is my parcel?"])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
