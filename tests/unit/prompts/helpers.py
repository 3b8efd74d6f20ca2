"""What the tests of prompts share."""

from __future__ import annotations

from hypothesis import settings

from llm_gateway.errors import GatewayError
from llm_gateway.models import Json, Message
from llm_gateway.prompts.prompt import Prompt, parse_prompt

SECRET = "s3cr3t_sc0tt"
modest = settings(max_examples=50, deadline=None, database=None)


def parsed(text: str) -> Prompt:
    return parse_prompt("a.prompt", "v1", text.encode())


def rendered(text: str, variables: dict[str, Json] | None = None, max_chars: int = 1_000) -> list[Message]:
    return list(parsed(text).render(variables or {}, max_chars))


def told(error: GatewayError) -> str:
    """All that a caller gets to see of an error."""
    return str(error.to_wire("id"))
