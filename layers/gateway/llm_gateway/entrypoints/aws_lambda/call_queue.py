"""CallPrompt behind events: asynchronous invokes, and a queue of calls.

What a caller gets is a result: the JSON of POST /v1/call's answer, or `error` in its usual shape beside
the caller's `correlation_id`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Protocol

from llm_gateway.api.calls import CORRELATION_ID, CallRequest
from llm_gateway.calls.idempotency import IdempotentCalls
from llm_gateway.deadline import Deadline
from llm_gateway.entrypoints.aws_lambda.function import InvocationFailed
from llm_gateway.entrypoints.aws_lambda.invoke import lambda_time_left
from llm_gateway.errors import GatewayError, StoreUnavailable
from llm_gateway.json_schema.values import Json
from llm_gateway.models.errors import ProviderError
from llm_gateway.validation import decode_json, validated

Result = dict[str, Json]


class ResultQueue(Protocol):
    """Where results go that nobody waits for."""

    async def send(self, body: str) -> None:
        """Send one result, as JSON.

        Raises:
            StoreUnavailable: It was not sent.
        """
        ...


class EventObserver(Protocol):
    """Told of calls that did not end well."""

    def refused(self, error: GatewayError, request_id: str | None) -> None:
        """The call ended with `error`."""
        ...

    def crashed(self, error: BaseException, request_id: str | None) -> None:
        """The call met a defect."""
        ...


class CallFailed(InvocationFailed):
    """Ends an asynchronous invoke, so that Lambda sends its record to the failure destination.

    The message is the result as JSON.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(json.dumps(result))


class CallEvents:
    """Answers events, each paid for at most once however often it is delivered.

    Args:
        calls: Makes the calls.
        answers: Where answers to queued calls go.
        failures: Where errors of queued calls go that no further delivery would mend.
        observer: Logs and metrics.
        reserve_s: Time kept back from Lambda's own timeout, seconds.
    """

    def __init__(
        self,
        calls: IdempotentCalls,
        answers: ResultQueue,
        failures: ResultQueue,
        observer: EventObserver,
        reserve_s: float,
    ) -> None:
        self._calls = calls
        self._answers = answers
        self._failures = failures
        self._observer = observer
        self._reserve_s = reserve_s

    async def answer_invoke(self, event: object, context: Any) -> Result:
        """The answer to an asynchronous invoke; Lambda sends it to the success destination.

        Raises:
            CallFailed: With the error.
        """
        time_left = lambda_time_left(context, self._reserve_s)
        try:
            return await self._call(event, context.aws_request_id, time_left)
        except GatewayError as error:
            self._observer.refused(error, context.aws_request_id)
            raise CallFailed(failure(error, event, context.aws_request_id)) from None

    async def answer_batch(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Answer the messages of a batch side by side; those to be delivered again are named."""
        time_left = lambda_time_left(context, self._reserve_s)
        records = event["Records"]
        done = await asyncio.gather(*(self._answer_message(record, time_left) for record in records))
        failed = [record["messageId"] for record, ok in zip(records, done, strict=True) if not ok]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    async def _answer_message(self, record: Mapping[str, Any], time_left: Deadline) -> bool:
        """True if the message is done with, for better or worse."""
        message_id, body = str(record["messageId"]), None
        try:
            body = decode_json(str(record["body"]))
            queue, result = self._answers, await self._call(body, message_id, time_left)
        except GatewayError as error:
            self._observer.refused(error, message_id)
            if _may_be_mended(error):
                return False
            queue, result = self._failures, failure(error, body, message_id)
        except Exception as error:
            self._observer.crashed(error, message_id)
            return False
        return await self._sent(queue, result, message_id)

    async def _sent(self, queue: ResultQueue, result: Result, message_id: str) -> bool:
        try:
            await queue.send(json.dumps(result))
        except StoreUnavailable as error:  # the next delivery finds the answer by its key, and sends it
            self._observer.refused(error, message_id)
            return False
        return True

    async def _call(self, event: object, event_id: str, time_left: Deadline) -> Result:
        request = validated(CallRequest, event)
        answer = await self._calls.call_event(request, event_id, time_left)
        return dict(answer.model_dump(mode="json"))


def _may_be_mended(error: GatewayError) -> bool:
    """True if another delivery may do better: the fault may pass or is the operators', and cost nothing."""
    paid = isinstance(error, ProviderError) and bool(error.spent)
    return error.retryable or (error.status >= 500 and not paid)


def is_batch(event: object) -> bool:
    """True for messages of a queue, false for an invoke, which may be any JSON."""
    if not isinstance(event, Mapping) or not isinstance(event.get("Records"), list):
        return False
    return all(isinstance(r, Mapping) and r.get("eventSource") == "aws:sqs" for r in event["Records"])


def failure(error: GatewayError, event: object, event_id: str | None) -> Result:
    """The result of a call that failed, under the name that its caller gave it if that is one."""
    given = event.get("correlation_id") if isinstance(event, Mapping) else None
    known = isinstance(given, str) and CORRELATION_ID.fullmatch(given)
    return {**error.to_wire(event_id), "correlation_id": given if known else None}
