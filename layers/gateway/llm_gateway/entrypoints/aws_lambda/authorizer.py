"""API Gateway's question who calls, answered with a policy that it keeps for a while.

A caller that is known may call every method of the API as far as API Gateway is concerned: what a key
allows in particular is the functions' to say, which know prompts and models. One that is not known is
denied by a policy, which is kept as well, so that guessing does not start a function each time. API Gateway
puts the code and the message beside that policy into its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from llm_gateway.access.caller import Caller, Callers
from llm_gateway.access.errors import Unauthorized
from llm_gateway.entrypoints.aws_lambda.callers import caller_context

Effect = Literal["Allow", "Deny"]


class AuthorizerObserver(Protocol):
    """Told of callers that are not known."""

    def denied(self, request_id: str | None) -> None:
        """A request came with no key, or with one that opens nothing."""
        ...


async def authorize(
    event: Mapping[str, Any], callers: Callers, observer: AuthorizerObserver
) -> dict[str, Any]:
    """The policy for whoever sent a request.

    Args:
        event: A request authorizer's event.
        callers: Authenticates them.
        observer: Logs and metrics.

    Raises:
        StoreUnavailable: Nobody can be told from anybody; API Gateway answers 500 and keeps nothing.
    """
    try:
        caller = await callers.authenticate(_authorization(event))
    except Unauthorized as refusal:
        observer.denied((event.get("requestContext") or {}).get("requestId"))
        return _answer("Deny", event, "nobody", {"code": refusal.code, "message": refusal.message})
    return _answer("Allow", event, _principal(caller), caller_context(caller))


def _authorization(event: Mapping[str, Any]) -> str | None:
    headers: Mapping[str, str] = event.get("headers") or {}
    return next((value for name, value in headers.items() if name.lower() == "authorization"), None)


def _principal(caller: Caller) -> str:
    return caller.key_id or "open"


def _answer(
    effect: Effect, event: Mapping[str, Any], principal: str, context: Mapping[str, str]
) -> dict[str, Any]:
    """The policy covers the whole stage, because what is kept holds for every method."""
    api, stage = str(event["methodArn"]).split("/")[:2]
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{api}/{stage}/*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    return {"principalId": principal, "policyDocument": policy, "context": dict(context)}
