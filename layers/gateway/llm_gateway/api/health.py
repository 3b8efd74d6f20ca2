"""Health and errors: what callers get from every endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from llm_gateway.api.fields import Wire


class Health(Wire):
    """The process runs."""

    status: Literal["ok"]
    version: str


class Readiness(Wire):
    """Whether calls can be served."""

    status: Literal["ready", "not_ready"]


class ErrorDetail(Wire):
    """What went wrong; a superset of OpenAI's error object."""

    message: str
    type: str
    code: str = Field(description="Stable; see docs/api.md.")
    param: str | None = Field(description="The request field at fault, dotted.")
    request_id: str | None
    retryable: bool
    details: dict[str, JsonValue]


class ErrorBody(Wire):
    """Body of every answer that is not 2xx."""

    error: ErrorDetail
