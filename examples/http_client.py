"""Calls a prompt over HTTP with nothing but Python's own library.

python examples/http_client.py                                   the sandbox or `llm-gateway serve`
URL=… KEY=… python examples/http_client.py "Where is my parcel?"  what `make up` printed
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
import uuid
from typing import Any
from urllib.error import HTTPError

URL = os.environ.get("URL", "http://127.0.0.1:8080")
KEY = os.environ.get("KEY")
# Longer than the gateway takes at most, so that its own answer is heard and not a timeout of the connection.
TIMEOUT_S = 130


def request(method: str, path: str, body: object = None, **headers: str) -> dict[str, Any]:
    """One request; an error ends the program with what the gateway advises."""
    sent = {"content-type": "application/json", **headers}
    if KEY:
        sent["authorization"] = f"Bearer {KEY}"
    data = None if body is None else json.dumps(body).encode()
    try:
        asked = urllib.request.Request(f"{URL}{path}", data, sent, method=method)
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
            answered: dict[str, Any] = json.load(answer)
            return answered
    except HTTPError as refused:
        sys.exit(f"{refused.code} {refused.read().decode()}")


def main(ticket: str) -> None:
    """What there is, one call, and what it cost."""
    listed = request("GET", "/v1/prompts?directory=support")
    print("prompts:", ", ".join(prompt["path"] for prompt in listed["prompts"]))
    call: dict[str, Any] = {
        "prompt": "support/reply",
        "variables": {"user": {"name": "Ada"}, "ticket": ticket},
    }
    if not KEY:
        call["calling_service"] = "examples"  # a key says itself whose it is
    # The same key again gives the same answer again, unpaid: safe to repeat after a lost connection.
    answer = request("POST", "/v1/call", call, **{"idempotency-key": str(uuid.uuid4())})
    print("answer:", answer["text"])
    print("model:", answer["model"], "tokens:", answer["usage"]["total_tokens"], "USD:", answer["cost_usd"])


if __name__ == "__main__":
    main(*sys.argv[1:] or ["Where is my parcel?"])
