"""What the tests of prompts share."""

from __future__ import annotations

from hypothesis import settings

from llm_gateway.errors import GatewayError, RequestError
from llm_gateway.json_schema.values import Json
from llm_gateway.models.messages import Message
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.prompt import Prompt, parse_prompt

SECRET = "s3cr3t_sc0tt"
modest = settings(max_examples=50, deadline=None, database=None)


def parsed(text: str) -> Prompt:
    return parse_prompt("a.prompt", "v1", text.encode())


def rendered(text: str, variables: dict[str, Json] | None = None, max_chars: int = 1_000) -> list[Message]:
    return list(parsed(text).render(variables or {}, max_chars))


def told_of_refusal(text: str, variables: dict[str, Json], max_chars: int = 1_000_000) -> str:
    """What is seen of a prompt that cannot be used: by its author at upload, or else by its caller."""
    try:
        rendered(text, variables, max_chars)
    except PromptSyntaxError as broken:
        return str(broken)
    except RequestError as refusal:
        assert 400 <= refusal.status < 500  # noqa: PT017 (either refusal is right)
        return told(refusal)
    raise AssertionError(f"rendered: {text}")


def told(error: GatewayError) -> str:
    """All that a caller gets to see of an error."""
    return str(error.to_wire("id"))
