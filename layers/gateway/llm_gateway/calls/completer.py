"""From routes to an answer: every attempt, every wait and every fallback within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from llm_gateway.calls.tally import Retry, Tally
from llm_gateway.deadline import Deadline
from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.completion import Completion
from llm_gateway.models.errors import ProviderError, ProviderTimeout
from llm_gateway.models.messages import Message
from llm_gateway.models.provider import Provider
from llm_gateway.models.routing import Route
from llm_gateway.usage.pricing import Spending

SHORTEST_ATTEMPT_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's completion.

    Attributes:
        completion: What it said.
        route: The one of the routes that was taken last.
        attempts: Attempts it took, those at other models included.
        spent: What all of them were billed.
    """

    completion: Completion
    route: Route
    attempts: int
    spent: tuple[Spending, ...]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patiently a model is asked.

    Attributes:
        limit: Retries after the first attempt at a model.
        first_wait_s: Longest wait before the first retry, in seconds; it doubles with each further one.
        longest_wait_s: Where the doubling ends. The vendor may ask for more.
    """

    limit: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0


class Completer:
    """Asks models for completions, patiently but not beyond the deadline; the only owner of retries.

    Args:
        providers: Adapters by provider name.
        retries: How patiently each model is asked.
        sleep: Waits between attempts; tests pass their own.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        retries: RetryPolicy,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._providers = providers
        self._retries = retries
        self._backoff = wait_random_exponential(multiplier=retries.first_wait_s, max=retries.longest_wait_s)
        self._sleep = sleep

    async def complete(
        self,
        routes: Sequence[Route],
        messages: Sequence[Message],
        deadline: Deadline,
        tally: Tally,
    ) -> Answer:
        """Ask the first route's model; after failures that may pass again, and then the next route's.

        While there is another route, one may take no more than its even share of the time that is left.

        Args:
            routes: At least one.
            messages: What to ask.
            deadline: When it is over.
            tally: Goes on with the call's earlier questions, if there were any.

        Raises:
            ProviderError: Of the last attempt, with attempts and spending of the whole tally.
            ProviderTimeout: The deadline passed.
        """
        for number, (route, after) in enumerate(zip(routes, [*routes[1:], None], strict=True), start=1):
            fair_s = deadline.remaining_s() / (len(routes) - number + 1)
            share = deadline.sooner(deadline.elapsed_s() + fair_s)
            try:
                completion = await self._ask(route, messages, share, tally)
                return Answer(completion, route, tally.attempts, tuple(tally.spent))
            except ProviderError as error:
                error.after(tally.attempts, tally.spent)
                if after is None or not error.retryable or deadline.remaining_s() < SHORTEST_ATTEMPT_S:
                    raise
                tally.told(Retry(tally.attempts, route.model, error, after.model, 0.0))
        raise AssertionError("there is always a first route")

    async def _ask(
        self, route: Route, messages: Sequence[Message], deadline: Deadline, tally: Tally
    ) -> Completion:
        """One model's answer."""
        provider, before, began_s = (
            self._providers[route.model.provider],
            tally.attempts,
            deadline.elapsed_s(),
        )
        if deadline.remaining_s() == 0:
            raise _timeout(deadline, before)

        async def attempt() -> Completion:
            tally.attempts += 1
            options = route.options.of_attempt(tally.attempts - before)
            try:
                answer = await provider.complete(route.model, messages, options, deadline.remaining_s())
            except ProviderError as error:
                tally.bill(route.model, error.usage)
                raise
            tally.bill(route.model, answer.usage)
            return answer

        try:
            async with asyncio.timeout(deadline.remaining_s()):
                return await self._retrying(route.model, deadline, tally)(attempt)
        except TimeoutError as error:
            raise _timeout(deadline, tally.attempts) from error
        finally:
            tally.asking_s += deadline.elapsed_s() - began_s

    def _retrying(self, model: ModelSpec, deadline: Deadline, tally: Tally) -> AsyncRetrying:
        def out_of_patience(state: RetryCallState) -> bool:
            time_needed = state.upcoming_sleep + SHORTEST_ATTEMPT_S
            return state.attempt_number > self._retries.limit or time_needed > deadline.remaining_s()

        def tell(state: RetryCallState) -> None:
            error = _failure(state)
            if error is not None:
                tally.told(Retry(tally.attempts, model, error, model, state.upcoming_sleep))

        return AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=self._wait_s,
            stop=out_of_patience,
            before_sleep=tell,
            sleep=self._sleep,
            reraise=True,
        )

    def _wait_s(self, state: RetryCallState) -> float:
        """Full-jitter exponential backoff, or longer if the vendor said so."""
        error = _failure(state)
        asked = None if error is None else error.retry_after_s
        return max(self._backoff(state), asked or 0.0)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and error.retryable


def _failure(state: RetryCallState) -> ProviderError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, ProviderError) else None


def _timeout(deadline: Deadline, attempts: int) -> ProviderTimeout:
    elapsed = round(deadline.elapsed_s(), 3)
    error = ProviderTimeout(
        f"The model did not answer within {elapsed:.1f} s. Retry, or allow more with 'timeout_s'.",
        details={"elapsed_s": elapsed, "attempts": attempts},
    )
    error.attempts = attempts
    return error
