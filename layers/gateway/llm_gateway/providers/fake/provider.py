"""Test mode: a provider that answers without a vendor, the same way every time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence

from llm_gateway.deadline import Deadline
from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import AnswerTruncated, ProviderError
from llm_gateway.models.messages import Message
from llm_gateway.models.options import Mock, ModelOptions
from llm_gateway.models.tokens import TOKENS_PER_MESSAGE, estimated_tokens, first_tokens
from llm_gateway.providers.fake.example import NoExample, Schema, example_of
from llm_gateway.workers import INLINE, Workers

_OWNER = "test mode"
_ERRORS = ProviderError.kinds()
_REASONING_TOKENS = 64
_FIRST_TOKEN_S = 0.35
_INPUT_TOKENS_PER_S = 20_000
_OUTPUT_TOKENS_PER_S = 90

Latency = Callable[[TokenUsage], float]


def realistic_latency(usage: TokenUsage) -> float:
    """Seconds that a vendor's mid-sized model takes for so many tokens, roughly, on a quiet day."""
    tokens_in, tokens_out = usage.input_tokens or 0, usage.output_tokens or 0
    return _FIRST_TOKEN_S + tokens_in / _INPUT_TOKENS_PER_S + tokens_out / _OUTPUT_TOKENS_PER_S


class FakeProvider:
    """Answers deterministically, with token counts of realistic size.

    The answer names the model and the size and digest of what it was sent, so a test can tell two
    prompts apart; a call that asks for JSON gets the same as a JSON object, or an example of the schema it
    names. A prompt may say what to do instead (`gateway.mock`): an answer, a delay, an error for each of
    the first attempts.

    Args:
        latency: Seconds that an answer takes; None takes no time.
        workers: Make answers that have a schema.
    """

    def __init__(self, latency: Latency | None = None, workers: Workers = INLINE) -> None:
        self._latency = latency
        self._workers = workers

    async def complete(
        self,
        model: ModelSpec,
        messages: Sequence[Message],
        options: ModelOptions,
        timeout_s: float,
    ) -> Completion:
        """See Provider.complete."""
        mock = options.mock or Mock()
        for code in mock.errors:
            await asyncio.sleep(mock.delay_s or 0)
            raise _ERRORS[code]("The prompt's mock says so.")

        def answer() -> Completion:
            return _completion(model, messages, options, mock)

        first = answer if options.output_schema is None else None
        completion = await self._workers.run(answer, Deadline.after(timeout_s), owner=_OWNER, first=first)
        await asyncio.sleep(self._delay_s(mock, completion.usage))
        if not completion.text:
            error = AnswerTruncated("The token limit left no room for an answer behind the reasoning.")
            error.usage = completion.usage
            raise error
        return completion

    def _delay_s(self, mock: Mock, usage: TokenUsage) -> float:
        if mock.delay_s is not None:
            return mock.delay_s
        return self._latency(usage) if self._latency else 0.0


def _completion(
    model: ModelSpec, messages: Sequence[Message], options: ModelOptions, mock: Mock
) -> Completion:
    text = _answer(model, messages, options) if mock.answer is None else mock.answer
    reasoning = 0 if model.sampling else _REASONING_TOKENS
    tokens = reasoning + estimated_tokens(text)
    limit = options.max_tokens or model.max_output_tokens
    return Completion(
        text=first_tokens(text, limit - reasoning) if limit > reasoning else "",
        finish_reason="length" if tokens > limit else "stop",
        usage=TokenUsage(
            input_tokens=sum(TOKENS_PER_MESSAGE + estimated_tokens(m.content) for m in messages),
            output_tokens=min(tokens, limit),
            cached_input_tokens=0,
            reasoning_tokens=min(reasoning, limit),
            cache_write_tokens=0,
        ),
        served_model=f"{model.name}-test",
    )


def _answer(model: ModelSpec, messages: Sequence[Message], options: ModelOptions) -> str:
    sent = "\n".join(f"{m.role}:{m.content}" for m in messages)
    facts = {
        "test_mode": True,
        "model": model.name,
        "messages": len(messages),
        "characters": sum(len(m.content) for m in messages),
        "digest": hashlib.sha256(sent.encode()).hexdigest()[:12],
    }
    if options.output_schema is not None:
        return _example(options.output_schema)
    if options.output_format == "json":
        return json.dumps(facts)
    return (
        f"[test mode] {facts['model']} was sent {facts['messages']} message(s) of "
        f"{facts['characters']} characters, digest {facts['digest']}."
    )


def _example(schema: Schema) -> str:
    try:
        return json.dumps(example_of(schema))
    except NoExample:
        raise AnswerTruncated("An example of the output schema would be longer than any answer.") from None
