"""Every error the gateway raises on purpose; each class owns its HTTP status, code and retryability.

GatewayError 500 internal_error
├── RequestError                    the caller can mend it
│   ├── InvalidRequest          400 invalid_request
│   │   ├── MalformedJson       400 malformed_json
│   │   ├── UnknownField        400 unknown_field
│   │   ├── InvalidParameter    400 invalid_parameter
│   │   ├── InvalidPath         400 invalid_prompt_path
│   │   ├── AmbiguousPrompt     400 ambiguous_prompt
│   │   ├── MissingVariables    400 missing_variables
│   │   ├── InvalidVariables    400 invalid_variables
│   │   ├── RenderLimitExceeded 400 render_limit_exceeded
│   │   ├── UnknownProvider     400 unknown_provider
│   │   └── UnknownModel        400 unknown_model
│   ├── PromptNotFound          404 prompt_not_found
│   ├── RouteNotFound           404 route_not_found
│   ├── MethodNotAllowed        405 method_not_allowed
│   ├── LabelMoved              409 label_moved
│   ├── IdempotencyKeyReused    409 idempotency_key_reused
│   ├── IdempotencyKeyInUse     409 idempotency_key_in_use     retryable
│   ├── CallInterrupted         409 call_interrupted
│   ├── AnswerNotKept           409 answer_not_kept
│   ├── BodyTooLarge            413 body_too_large
│   ├── UnsupportedMediaType    415 unsupported_media_type
│   └── PromptBroken            422 prompt_broken
├── ProviderError                   the model's vendor, or our account there
│   ├── ProviderTimeout         504 provider_timeout           retryable
│   ├── ProviderRateLimited     429 provider_rate_limited      retryable
│   ├── ProviderQuotaExhausted  502 provider_quota_exhausted
│   ├── ProviderUnavailable     502 provider_unavailable       retryable
│   ├── ProviderRejected        422 provider_rejected
│   ├── ContentFiltered         422 content_filtered
│   ├── ModelRefused            422 model_refused
│   ├── AnswerTruncated         422 answer_truncated
│   ├── AnswerNotJson           502 answer_not_json
│   ├── AnswerViolatesSchema    502 answer_violates_schema
│   ├── ProviderAuthFailed      502 provider_auth_failed       our key, so never a 401
│   └── InvalidProviderResponse 502 invalid_provider_response
│       ├── ResponseNotJson     502 provider_response_not_json
│       ├── ResponseNoChoices   502 provider_response_no_choices
│       └── ResponseNoContent   502 provider_response_no_content
├── StoreUnavailable            503 store_unavailable          retryable
└── ConfigurationError          500 configuration_error

Messages are safe for callers: they tell what to do and name the field, and never hold a variable's
value, prompt text, an answer or a key.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from llm_gateway.models import Json, TokenUsage
    from llm_gateway.usage import Spending


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

    def __init__(self, names: Sequence[str]) -> None:
        listed = ", ".join(names)
        super().__init__(
            f"The prompt needs variables that are missing: {listed}. Add them to 'variables'.",
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
    """The endpoint exists, the method does not."""

    status = 405
    code = "method_not_allowed"


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


class UnsupportedMediaType(RequestError):
    """The request body is not declared as JSON."""

    status = 415
    code = "unsupported_media_type"


class PromptBroken(RequestError):
    """The prompt file does not parse and has no earlier version that does."""

    status = 422
    code = "prompt_broken"


class ProviderError(GatewayError):
    """The model's vendor did not give a usable answer.

    Attributes:
        attempts: Attempts made before giving up; the router counts them.
        usage: Tokens the vendor billed all the same, None if it names none.
        spent: What all attempts were billed, those at other models included; the router adds it up.
    """

    status = 502
    code = "provider_error"
    type = "provider_error"
    attempts: int = 1
    usage: TokenUsage | None = None
    spent: Sequence[Spending] = ()

    def after(self, attempts: int, spent: Sequence[Spending]) -> Self:
        """This error, with what the call has cost until now."""
        self.attempts, self.spent = attempts, tuple(spent)
        self.details["attempts"] = attempts
        return self

    @classmethod
    def kinds(cls) -> Mapping[str, builtins.type[ProviderError]]:
        """This class and all below it, by code."""
        below = [kind.kinds() for kind in cls.__subclasses__()]
        return {cls.code: cls} | {code: kind for kinds in below for code, kind in kinds.items()}


class ProviderTimeout(ProviderError):
    """The call's deadline passed before the model answered."""

    status = 504
    code = "provider_timeout"
    retryable = True


class ProviderRateLimited(ProviderError):
    """The vendor asks us to slow down."""

    status = 429
    code = "provider_rate_limited"
    retryable = True


class ProviderQuotaExhausted(ProviderError):
    """Our account at the vendor is out of credit: no retry heals it."""

    code = "provider_quota_exhausted"


class ProviderUnavailable(ProviderError):
    """The vendor is down, overloaded or unreachable."""

    code = "provider_unavailable"
    retryable = True


class ProviderRejected(ProviderError):
    """The vendor refuses this request, for example because it is too long for the model."""

    status = 422
    code = "provider_rejected"


class ContentFiltered(ProviderError):
    """The vendor's content filter stopped the request or the answer."""

    status = 422
    code = "content_filtered"


class ModelRefused(ProviderError):
    """The model declines to answer."""

    status = 422
    code = "model_refused"


class AnswerTruncated(ProviderError):
    """The answer ran into its token limit before it was of any use."""

    status = 422
    code = "answer_truncated"


class AnswerNotJson(ProviderError):
    """JSON was asked for, and the model answered something else."""

    code = "answer_not_json"


class AnswerViolatesSchema(ProviderError):
    """The answer is JSON, but not of the shape that was asked for."""

    code = "answer_violates_schema"


class ProviderAuthFailed(ProviderError):
    """The vendor refuses the gateway's own key."""

    code = "provider_auth_failed"


class InvalidProviderResponse(ProviderError):
    """The vendor's answer is not what its API promises."""

    code = "invalid_provider_response"


class ResponseNotJson(InvalidProviderResponse):
    """The vendor answered with something that is not JSON, or with half of it."""

    code = "provider_response_not_json"


class ResponseNoChoices(InvalidProviderResponse):
    """The vendor's answer holds no choice."""

    code = "provider_response_no_choices"


class ResponseNoContent(InvalidProviderResponse):
    """The vendor's answer has a choice without text."""

    code = "provider_response_no_content"


class StoreUnavailable(GatewayError):
    """A store the answer depends on did not respond."""

    status = 503
    code = "store_unavailable"
    type = "gateway_error"
    retryable = True


class ConfigurationError(GatewayError):
    """The gateway itself is set up wrongly; the message names the setting."""

    code = "configuration_error"


def internal_error() -> GatewayError:
    """What a caller sees of a defect."""
    return GatewayError("The gateway failed; quote the request id to its operators.")
