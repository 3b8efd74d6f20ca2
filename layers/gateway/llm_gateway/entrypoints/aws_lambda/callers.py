"""Callers in Lambda: as the authorizer hands them on through API Gateway, or as IAM names them.

Only reads what API Gateway found out; keys are checked in authorizer.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from llm_gateway.access.caller import OPEN, Caller, scopes_from
from llm_gateway.access.errors import Unauthorized
from llm_gateway.bootstrap.settings import Access

_CALLER = "caller"


def caller_context(caller: Caller) -> dict[str, str]:
    """What an authorizer hands on; the service stands by itself for the access log."""
    return {_CALLER: json.dumps(asdict(caller)), "service": caller.service or ""}


def caller_in(context: Mapping[str, str]) -> Caller | None:
    """The caller that an authorizer handed on, None if it did not."""
    if _CALLER not in context:
        return None
    facts = json.loads(context[_CALLER])
    return Caller(facts["service"], facts["key_id"], scopes_from(facts["scopes"]))


class EventCallers:
    """Callers as API Gateway tells of them: by the authorizer's context, or by IAM's identity.

    Args:
        access: How callers prove who they are.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __call__(self, request: Request) -> Caller:
        """See RequestCallers."""
        context = request.scope["aws.event"]["requestContext"]
        if self._access == "iam":
            return _iam_caller(context)
        caller = caller_in(context.get("authorizer") or {})
        if caller is not None:
            return caller
        if self._access == "open":
            return OPEN
        raise Unauthorized


def _iam_caller(context: Mapping[str, Any]) -> Caller:
    """The service named as the role or user that signed the request; of another account, with its id."""
    identity = context.get("identity") or {}
    kind, _, name = str(identity.get("userArn") or "").rpartition(":")[2].partition("/")
    if not name:
        raise Unauthorized("Sign the request with AWS Signature Version 4.")
    name = name.partition("/")[0] if kind == "assumed-role" else name.rpartition("/")[2]
    account = identity.get("accountId")
    own = account in (None, context.get("accountId"))
    return Caller(name if own else f"{account}/{name}")
