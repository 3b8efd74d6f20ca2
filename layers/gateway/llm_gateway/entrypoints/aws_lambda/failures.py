"""Asynchronous invokes that failed, as Lambda tells of them: with the whole request.

Callers get the error as queued calls do, and the request goes no further.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from llm_gateway.entrypoints.aws_lambda.call_queue import Result, ResultQueue, failure
from llm_gateway.errors import CallInterrupted

_RESULT = {"error", "correlation_id"}
_ERROR = {"message", "type", "code", "param", "request_id", "retryable", "details"}


class FailureObserver(Protocol):
    """Told of what was reported."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...


async def report_failure(record: Mapping[str, Any], failures: ResultQueue, observer: FailureObserver) -> None:
    """Send the error of one failed invoke to its caller.

    Args:
        record: Lambda's record of the invoke.
        failures: Where errors go.
        observer: Logs.

    Raises:
        StoreUnavailable: It was not sent; Lambda delivers the record again.
    """
    result = _told_by_the_gateway(record) or _crashed(record)
    await failures.send(json.dumps(result))
    error: Any = result["error"]
    observer.note("failure reported", request_id=error["request_id"], error_code=error["code"])


def _told_by_the_gateway(record: Mapping[str, Any]) -> Result | None:
    """The result that CallFailed carried; any other message may hold whatever the crash was about."""
    payload = record.get("responsePayload")
    message = payload.get("errorMessage") if isinstance(payload, Mapping) else None
    try:
        result = json.loads(message) if isinstance(message, str) else None
    except ValueError:
        return None
    if not isinstance(result, dict) or result.keys() != _RESULT:
        return None
    return result if isinstance(result["error"], dict) and result["error"].keys() == _ERROR else None


def _crashed(record: Mapping[str, Any]) -> Result:
    """Lambda has no answer: the function died, ran out of time or never started."""
    told = record.get("requestContext", {})
    error = CallInterrupted(
        "The call ended without an answer and may have been paid for; "
        "send it again if it is to be made again.",
        details={"condition": told.get("condition")},
    )
    return failure(error, record.get("requestPayload"), told.get("requestId"))
