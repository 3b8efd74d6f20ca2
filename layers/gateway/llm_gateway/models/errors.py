"""What can go wrong with a model; one branch of the tree in llm_gateway/errors.py.

ProviderError 502 provider_error    the model's vendor, or our account there
├── ProviderTimeout         504 provider_timeout           retryable
├── ProviderRateLimited     429 provider_rate_limited      retryable
├── ProviderQuotaExhausted  502 provider_quota_exhausted
├── ProviderUnavailable     502 provider_unavailable       retryable
├── ProviderRejected        422 provider_rejected
├── ContentFiltered         422 content_filtered
├── ModelRefused            422 model_refused
├── AnswerTruncated         422 answer_truncated
├── AnswerNotJson           502 answer_not_json
├── AnswerViolatesSchema    502 answer_violates_schema
├── ProviderAuthFailed      502 provider_auth_failed       our key, so never a 401
└── InvalidProviderResponse 502 invalid_provider_response
    ├── ResponseNotJson     502 provider_response_not_json
    ├── ResponseNoChoices   502 provider_response_no_choices
    └── ResponseNoContent   502 provider_response_no_content
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from llm_gateway.errors import GatewayError

if TYPE_CHECKING:
    from llm_gateway.models.completion import TokenUsage
    from llm_gateway.usage.pricing import Spending


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
