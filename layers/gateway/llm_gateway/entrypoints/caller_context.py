"""A caller on its way from the authorizer through API Gateway to a function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from llm_gateway.access.caller import Caller, scopes_from

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
