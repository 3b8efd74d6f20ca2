"""CallPrompt by Lambda invoke: the JSON of POST /v1/call in, the same JSON out, no envelope.

Who may invoke the function is AWS IAM's to say. Lambda does not tell who did, so such a caller names its
service itself.
"""

from __future__ import annotations

from typing import Any, Protocol

from llm_gateway.access.caller import OPEN
from llm_gateway.api.calls import CallRequest
from llm_gateway.calls.idempotency import CallsPrompts
from llm_gateway.deadline import Deadline
from llm_gateway.errors import GatewayError, internal_error
from llm_gateway.validation import validated


class InvokeObserver(Protocol):
    """Told of invokes that did not end well."""

    def refused(self, error: GatewayError, request_id: str | None) -> None:
        """The invoke was answered with `error`."""
        ...

    def crashed(self, error: BaseException, request_id: str | None) -> None:
        """The invoke met a defect."""
        ...


async def answer_invoke(
    calls: CallsPrompts, event: object, context: Any, *, observer: InvokeObserver, reserve_s: float
) -> dict[str, Any]:
    """The answer, or the error in its usual shape; a caller looks for the key `error`."""
    request_id: str = context.aws_request_id
    try:
        request = validated(CallRequest, event)
        answer = await calls.call_prompt(request, request_id, lambda_time_left(context, reserve_s), OPEN)
        return answer.model_dump(mode="json")
    except GatewayError as error:
        observer.refused(error, request_id)
        return dict(error.to_wire(request_id))
    except Exception as error:
        observer.crashed(error, request_id)
        return dict(internal_error().to_wire(request_id))


def lambda_time_left(context: Any, reserve_s: float) -> Deadline:
    """The latest end of a call in Lambda: its own timeout, less a reserve for accounting and answer."""
    return Deadline.after(max(0.0, context.get_remaining_time_in_millis() / 1000 - reserve_s))
