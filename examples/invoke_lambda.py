"""Calls a prompt from a program on AWS, past the API: by invoking the function.

FUNCTION=… AWS_ENDPOINT_URL=… python examples/invoke_lambda.py "Where is my parcel?"

`make up` prints FUNCTION (the output CallPromptFunctionName) and the endpoint, which AWS does not need.
"""

from __future__ import annotations

import json
import os
import sys

import boto3
from botocore.config import Config

# One answer can take two minutes, and a repeated invoke would pay for a second one.
CONFIG = Config(read_timeout=130, retries={"total_max_attempts": 1})


def main(ticket: str) -> None:
    """One call, waited for."""
    call = {
        "prompt": "support/reply",
        "variables": {"user": {"name": "Ada"}, "ticket": ticket},
        "calling_service": "examples",
    }
    functions = boto3.client("lambda", config=CONFIG)
    invoked = functions.invoke(FunctionName=os.environ["FUNCTION"], Payload=json.dumps(call))
    answer = json.load(invoked["Payload"])
    if "error" in answer:
        sys.exit(json.dumps(answer["error"]))
    print("answer:", answer["text"])
    print("model:", answer["model"], "tokens:", answer["usage"]["total_tokens"], "USD:", answer["cost_usd"])


if __name__ == "__main__":
    main(*sys.argv[1:] or ["Where is my parcel?"])
