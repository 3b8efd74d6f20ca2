"""From a request to an answer: which model, and every attempt at it within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from llm_gateway.deadline import Deadline
from llm_gateway.errors import InvalidParameter, ProviderError, ProviderTimeout
from llm_gateway.model_catalogue import ModelCatalogue, ModelSpec
from llm_gateway.models import Completion, Message, ModelOptions

SHORTEST_ATTEMPT_S = 1.0
_BACKOFF = wait_random_exponential(multiplier=0.5, max=8)


class Provider(Protocol):
    """A vendor's API."""

    async def complete(
        self,
        model: ModelSpec,
        messages: Sequence[Message],
        options: ModelOptions,
        timeout_s: float,
    ) -> Completion:
        """One attempt. Cancelling it closes the connection.

        Raises:
            ProviderError: Whatever the vendor did wrong or refused, in the gateway's own terms.
        """
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion and the attempts it took."""

    completion: Completion
    attempts: int


class Router:
    """Chooses a model and asks its provider, patiently but not beyond the deadline.

    Args:
        catalogue: The models there are.
        providers: Adapters by provider name.
        default_model: `provider/name`, when neither request nor prompt names a model.
        retry_limit: Retries after the first attempt.
        sleep: Waits between attempts; tests pass their own.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        providers: Mapping[str, Provider],
        *,
        default_model: str,
        retry_limit: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._default_model = default_model
        self._retry_limit = retry_limit
        self._sleep = sleep

    def choose(self, provider: str | None, model: str | None, authored: str | None) -> ModelSpec:
        """The request's choice, else the prompt author's, else the default.

        Args:
            provider: Provider named by the request.
            model: Model named by the request; `provider/name` if it names no provider beside it.
            authored: `provider/name` from the prompt's front matter.

        Raises:
            UnknownProvider, UnknownModel: With the nearest names.
            InvalidParameter: A provider alone, where nothing tells which of its models.
        """
        default_provider, _, default_name = (authored or self._default_model).partition("/")
        if model is None and provider in (None, default_provider):
            return self._catalogue.find(default_provider, default_name)
        if model is None and provider is not None:
            own_provider, _, own_name = self._default_model.partition("/")
            if provider != own_provider:
                self._catalogue.check_provider(provider)
                raise InvalidParameter(f"Name a model of {provider} as well.", param="model")
            return self._catalogue.find(own_provider, own_name)
        name = model or ""
        if provider is None and "/" in name:
            provider, _, name = name.partition("/")
        return self._catalogue.find(provider or default_provider, name)

    async def complete(
        self,
        model: ModelSpec,
        messages: Sequence[Message],
        options: ModelOptions,
        deadline: Deadline,
    ) -> Answer:
        """Ask the model's provider, again after failures that may pass, until the deadline.

        Raises:
            ProviderError: Of the last attempt, with `attempts` counted.
            ProviderTimeout: The deadline passed.
        """
        provider = self._providers[model.provider]
        attempts = 0
        if deadline.remaining_s() == 0:
            raise _timeout(deadline, attempts)

        async def attempt() -> Completion:
            nonlocal attempts
            attempts += 1
            return await provider.complete(model, messages, options, deadline.remaining_s())

        try:
            async with asyncio.timeout(deadline.remaining_s()):
                completion: Completion = await self._retrying(deadline)(attempt)
        except TimeoutError as error:
            raise _timeout(deadline, attempts) from error
        except ProviderError as error:
            error.attempts = attempts
            error.details["attempts"] = attempts
            raise
        return Answer(completion=completion, attempts=attempts)

    def _retrying(self, deadline: Deadline) -> AsyncRetrying:
        def out_of_patience(state: RetryCallState) -> bool:
            time_needed = state.upcoming_sleep + SHORTEST_ATTEMPT_S
            return state.attempt_number > self._retry_limit or time_needed > deadline.remaining_s()

        return AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=_wait_s,
            stop=out_of_patience,
            sleep=self._sleep,
            reraise=True,
        )


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and error.retryable


def _wait_s(state: RetryCallState) -> float:
    """Full-jitter exponential backoff, or longer if the vendor said so."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, ProviderError) else None
    return max(_BACKOFF(state), asked or 0.0)


def _timeout(deadline: Deadline, attempts: int) -> ProviderTimeout:
    elapsed = round(deadline.elapsed_s(), 3)
    error = ProviderTimeout(
        f"The model did not answer within {elapsed:.1f} s. Retry, or allow more with 'timeout_s'.",
        details={"elapsed_s": elapsed, "attempts": attempts},
    )
    error.attempts = attempts
    return error
