"""From a request to an answer: which model, and every attempt at it within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from llm_gateway.deadline import Deadline
from llm_gateway.errors import (
    InvalidParameter,
    ProviderError,
    ProviderTimeout,
    UnknownModel,
    UnknownProvider,
)
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
class Route:
    """A model that may answer a call, and the options it would be asked with."""

    model: ModelSpec
    options: ModelOptions


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion, the model that gave it, and the attempts it took, those at other models included."""

    completion: Completion
    model: ModelSpec
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

    def fallbacks(
        self, names: Sequence[str], requested: ModelOptions, authored: ModelOptions
    ) -> Sequence[Route]:
        """The routes to take if the first fails, in order.

        Names that are no model here and models that do not take what the request demands are left
        out: a fallback must not fail a call that could be answered.

        Args:
            names: `provider/name` each.
            requested: The request's options.
            authored: The prompt author's.
        """
        routes: list[Route] = []
        for name in names:
            provider, _, model = name.partition("/")
            with suppress(UnknownProvider, UnknownModel, InvalidParameter):
                spec = self._catalogue.find(provider, model)
                if provider in self._providers:
                    routes.append(Route(spec, spec.accepted(requested, authored)))
        return routes

    async def complete(
        self, routes: Sequence[Route], messages: Sequence[Message], deadline: Deadline
    ) -> Answer:
        """Ask the first route's model; after failures that may pass again, and then the next route's.

        While there is another route, one may take no more than its even share of the time that is left.

        Raises:
            ProviderError: Of the last attempt, with `attempts` counted over all routes.
            ProviderTimeout: The deadline passed.
        """
        attempts = 0
        for number, route in enumerate(routes):
            others = len(routes) - number - 1
            share = deadline.sooner(deadline.elapsed_s() + deadline.remaining_s() / (others + 1))
            try:
                completion, made = await self._ask(route, messages, share)
                return Answer(completion, route.model, attempts + made)
            except ProviderError as error:
                attempts += error.attempts
                error.attempts = attempts
                error.details["attempts"] = attempts
                if not (others and error.retryable and deadline.remaining_s() >= SHORTEST_ATTEMPT_S):
                    raise
        raise AssertionError("there is always a first route")

    async def _ask(
        self, route: Route, messages: Sequence[Message], deadline: Deadline
    ) -> tuple[Completion, int]:
        """One model's answer, and the attempts it took."""
        provider = self._providers[route.model.provider]
        attempts = 0
        if deadline.remaining_s() == 0:
            raise _timeout(deadline, attempts)

        async def attempt() -> Completion:
            nonlocal attempts
            attempts += 1
            options = route.options.of_attempt(attempts)
            return await provider.complete(route.model, messages, options, deadline.remaining_s())

        try:
            async with asyncio.timeout(deadline.remaining_s()):
                completion: Completion = await self._retrying(deadline)(attempt)
        except TimeoutError as error:
            raise _timeout(deadline, attempts) from error
        except ProviderError as error:
            error.attempts = attempts
            raise
        return completion, attempts

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
