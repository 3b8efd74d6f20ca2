"""What the gateway is measured against: one handler with everything at the top, as it is first written.

It does less than the gateway: the prompt is a constant and so is the key, nothing is priced.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from fastapi import FastAPI
from jinja2 import Environment
from mangum import Mangum
from openai import OpenAI
from pydantic import BaseModel

PROMPT = "Draft a reply to {{ user.name }}. <ticket>{{ ticket }}</ticket>"

logger = Logger(service="naive")
metrics = Metrics(namespace="Naive", service="naive")
s3 = boto3.client("s3")
dynamodb = boto3.client("dynamodb")
secrets = boto3.client("secretsmanager")
model = OpenAI(base_url=os.environ["LLM_GATEWAY_OPENAI_BASE_URL"], api_key="test")
templates = Environment(autoescape=False)  # noqa: S701 (text for a model, not HTML)
app = FastAPI()


class Call(BaseModel):
    """The body."""

    prompt: str
    variables: dict[str, Any]
    calling_service: str | None = None


@app.post("/v1/call")
def call(request: Call) -> dict[str, Any]:
    """Render, ask, keep the usage, log."""
    text = templates.from_string(PROMPT).render(request.variables)
    answer = model.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
    assert answer.usage is not None
    call_id = uuid.uuid4().hex
    item: dict[str, Any] = {
        "pk": {"S": "naive"},
        "sk": {"S": call_id},
        "input_tokens": {"N": str(answer.usage.prompt_tokens)},
        "output_tokens": {"N": str(answer.usage.completion_tokens)},
    }
    dynamodb.put_item(TableName=os.environ["LLM_GATEWAY_USAGE_TABLE"], Item=item)
    logger.info("call answered", extra={"call_id": call_id, "prompt": request.prompt})
    metrics.add_metric(name="Calls", unit=MetricUnit.Count, value=1)
    return {"call_id": call_id, "text": answer.choices[0].message.content}


adapter = Mangum(app, lifespan="off")


@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one call."""
    return adapter(event, context)
