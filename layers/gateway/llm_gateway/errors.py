"""Every error the gateway raises on purpose; each class owns its HTTP status, code and retryability.

GatewayError 500 internal_error
├── RequestError                    the caller can mend it
│   ├── InvalidRequest          400 invalid_request
│   │   ├── MalformedJson       400 malformed_json
│   │   ├── MalformedMessage    400 malformed_message
│   │   ├── MalformedHttp       400 malformed_http
│   │   ├── AmbiguousRequest    400 ambiguous_request
│   │   ├── UnknownField        400 unknown_field
│   │   ├── InvalidParameter    400 invalid_parameter
│   │   ├── InvalidPath         400 invalid_prompt_path
│   │   ├── AmbiguousPrompt     400 ambiguous_prompt
│   │   ├── MissingVariables    400 missing_variables
│   │   ├── InvalidVariables    400 invalid_variables
│   │   ├── RenderLimitExceeded 400 render_limit_exceeded
│   │   ├── UnknownProvider     400 unknown_provider
│   │   ├── UnknownModel        400 unknown_model
│   │   └── UnpricedModel       400 unpriced_model
│   ├── PromptNotFound          404 prompt_not_found
│   ├── RouteNotFound           404 route_not_found
│   ├── MethodNotAllowed        405 method_not_allowed
│   ├── RequestTimedOut         408 request_timed_out          retryable
│   ├── LabelMoved              409 label_moved
│   ├── IdempotencyKeyReused    409 idempotency_key_reused
│   ├── IdempotencyKeyInUse     409 idempotency_key_in_use     retryable
│   ├── CallInterrupted         409 call_interrupted
│   ├── AnswerNotKept           409 answer_not_kept
│   ├── BodyTooLarge            413 body_too_large
│   ├── UnsupportedMediaType    415 unsupported_media_type
│   ├── HeadersTooLarge         431 headers_too_large
│   ├── PromptBroken            422 prompt_broken
│   ├── BudgetExceeded          429 budget_exceeded
│   └── and those about who calls: access/errors.py
├── ProviderError                   the model's vendor, or our account there: models/errors.py
├── StoreUnavailable            503 store_unavailable          retryable
├── Overloaded                  503 overloaded                 retryable
├── CallCancelled               499 cancelled                  nobody hears it; the ledger and the log do
└── ConfigurationError          500 configuration_error

Messages are safe for callers: they tell what to do and name the field, and never hold a variable's
value, prompt text, an answer or a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from llm_gateway.json_schema.values import Json


class GatewayError(Exception):
    """Something the gateway knows how to explain to a caller.

    Attributes:
        message: One sentence for the caller.
        param: The request field at fault, dotted (`parameters.top_p`), or None.
        details: Machine-readable facts, JSON only.
        retry_after_s: Seconds after which a retry makes sense, or None if unknown.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "gateway_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        details: Mapping[str, Json] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details: dict[str, Json] = dict(details or {})
        self.retry_after_s = retry_after_s

    def to_wire(self, request_id: str | None) -> dict[str, Json]:
        """The answer's body: a superset of OpenAI's error shape."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "code": self.code,
                "param": self.param,
                "request_id": request_id,
                "retryable": self.retryable,
                "details": self.details,
            }
        }


class RequestError(GatewayError):
    """The request cannot be served as it stands; the same request would fail again."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"


class InvalidRequest(RequestError):
    """A field is missing, unknown or of the wrong type."""


class MalformedJson(InvalidRequest):
    """The body is not one JSON object."""

    code = "malformed_json"


class MalformedMessage(InvalidRequest):
    """The bytes are not the protobuf message that the method takes."""

    code = "malformed_message"


class MalformedHttp(InvalidRequest):
    """The bytes are not one HTTP/1.1 request, or readers may differ in what they mean."""

    code = "malformed_http"


class AmbiguousRequest(InvalidRequest):
    """A header or a query field that stands for one value is there twice."""

    code = "ambiguous_request"


class UnknownField(InvalidRequest):
    """A field the gateway does not know, most often a typing error."""

    code = "unknown_field"


class InvalidParameter(InvalidRequest):
    """A value is outside its range, or the chosen model does not take it."""

    code = "invalid_parameter"


class InvalidPath(InvalidRequest):
    """A prompt path or directory is not a plain relative path."""

    code = "invalid_prompt_path"


class AmbiguousPrompt(InvalidRequest):
    """A path without extension fits several files."""

    code = "ambiguous_prompt"

    def __init__(self, path: str, candidates: Sequence[str]) -> None:
        super().__init__(
            f"'{path}' fits several prompts; name one of them: {', '.join(candidates)}.",
            param="prompt",
            details={"candidates": list(candidates)},
        )


class MissingVariables(InvalidRequest):
    """The prompt needs variables that the request does not give; all of them are named."""

    code = "missing_variables"

    def __init__(self, names: Sequence[str], hint: str = "") -> None:
        listed = ", ".join(names)
        super().__init__(
            f"The prompt needs variables that are missing: {listed}. Add them to 'variables'.{hint}",
            param=f"variables.{names[0]}" if names else "variables",
            details={"missing": list(names)},
        )


class InvalidVariables(InvalidRequest):
    """Variables do not fit the prompt's input schema, or cannot be rendered."""

    code = "invalid_variables"


class RenderLimitExceeded(InvalidRequest):
    """Rendering grew past its bound."""

    code = "render_limit_exceeded"


class UnknownProvider(InvalidRequest):
    """No provider of that name is configured."""

    code = "unknown_provider"


class UnknownModel(InvalidRequest):
    """The provider has no such model in the catalogue."""

    code = "unknown_model"


class UnpricedModel(InvalidRequest):
    """The model has no price, and what the call costs is limited in dollars."""

    code = "unpriced_model"


class PromptNotFound(RequestError):
    """No prompt, or no such version of it."""

    status = 404
    code = "prompt_not_found"
    type = "not_found_error"


class RouteNotFound(RequestError):
    """No endpoint at this path."""

    status = 404
    code = "route_not_found"
    type = "not_found_error"


class MethodNotAllowed(RequestError):
    """The endpoint exists, the method does not.

    Attributes:
        allow: The methods that it takes, as the header `Allow` lists them.
    """

    status = 405
    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        methods: list[Json] = [*allow.split(", ")]
        super().__init__(f"The endpoint takes {allow} only; see docs/api.md.", details={"allow": methods})
        self.allow = allow


class RequestTimedOut(RequestError):
    """The request did not arrive in time; nothing was called."""

    status = 408
    code = "request_timed_out"
    retryable = True


class LabelMoved(RequestError):
    """A label was moved by somebody else at the same time."""

    status = 409
    code = "label_moved"
    type = "conflict_error"


class IdempotencyKeyReused(RequestError):
    """The idempotency key was used before, for another request."""

    status = 409
    code = "idempotency_key_reused"
    type = "conflict_error"


class IdempotencyKeyInUse(RequestError):
    """The first request with this idempotency key is still being answered."""

    status = 409
    code = "idempotency_key_in_use"
    type = "conflict_error"
    retryable = True


class CallInterrupted(RequestError):
    """An earlier delivery of this event ended before it could tell whether the model had answered."""

    status = 409
    code = "call_interrupted"
    type = "conflict_error"


class AnswerNotKept(RequestError):
    """The call was answered, but its answer was too large to be kept for a repetition."""

    status = 409
    code = "answer_not_kept"
    type = "conflict_error"


class BodyTooLarge(RequestError):
    """The request body is over the limit."""

    status = 413
    code = "body_too_large"


class HeadersTooLarge(RequestError):
    """The request line and headers are over the limit."""

    status = 431
    code = "headers_too_large"


class UnsupportedMediaType(RequestError):
    """The request body is not declared as plain JSON in UTF-8."""

    status = 415
    code = "unsupported_media_type"


class PromptBroken(RequestError):
    """The prompt file does not parse and has no earlier version that does."""

    status = 422
    code = "prompt_broken"


class BudgetExceeded(RequestError):
    """The calling service might spend more than it is allowed to; nothing was called."""

    status = 429
    code = "budget_exceeded"
    type = "budget_error"


class StoreUnavailable(GatewayError):
    """A store the answer depends on did not respond."""

    status = 503
    code = "store_unavailable"
    type = "gateway_error"
    retryable = True


class Overloaded(GatewayError):
    """The process answers as many calls as it can."""

    status = 503
    code = "overloaded"
    retryable = True


class CallCancelled(GatewayError):
    """The caller went away before it was answered: it closed its connection, or its deadline passed."""

    status = 499
    code = "cancelled"


class ConfigurationError(GatewayError):
    """The gateway itself is set up wrongly; the message names the setting."""

    code = "configuration_error"


def internal_error() -> GatewayError:
    """What a caller sees of a defect."""
    return GatewayError("The gateway failed; quote the request id to its operators.")
