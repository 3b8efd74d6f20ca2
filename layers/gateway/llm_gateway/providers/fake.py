"""Test mode: a provider that answers without a vendor, the same way every time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence

from llm_gateway.errors import ProviderError
from llm_gateway.model_catalogue import ModelSpec
from llm_gateway.models import Completion, Message, Mock, ModelOptions, TokenUsage
from llm_gateway.tokens import TOKENS_PER_MESSAGE, estimated_tokens, first_tokens

_ERRORS = {kind.code: kind for kind in ProviderError.__subclasses__()}


class FakeProvider:
    """Answers deterministically, with token counts of realistic size.

    The answer names the model and the size and digest of what it was sent, so a test can tell two
    prompts apart; a call that asks for JSON gets the same as a JSON object. A prompt may say what to do
    instead (`gateway.mock`): an answer, a delay, an error for each of the first attempts.
    """

    async def complete(
        self,
        model: ModelSpec,
        messages: Sequence[Message],
        options: ModelOptions,
        timeout_s: float,  # noqa: ARG002 (whoever waits for it has a deadline)
    ) -> Completion:
        """See Provider.complete."""
        mock = options.mock or Mock()
        await asyncio.sleep(mock.delay_s)
        for code in mock.errors:
            raise _ERRORS[code]("The prompt's mock says so.")
        text = _answer(model, messages, options) if mock.answer is None else mock.answer
        tokens = estimated_tokens(text)
        limit = options.max_tokens or model.max_output_tokens
        return Completion(
            text=first_tokens(text, limit),
            finish_reason="length" if tokens > limit else "stop",
            usage=TokenUsage(
                input_tokens=sum(TOKENS_PER_MESSAGE + estimated_tokens(m.content) for m in messages),
                output_tokens=min(tokens, limit),
                cached_input_tokens=0,
                reasoning_tokens=0,
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
    if options.output_format == "json":
        return json.dumps(facts)
    return (
        f"[test mode] {facts['model']} was sent {facts['messages']} message(s) of "
        f"{facts['characters']} characters, digest {facts['digest']}."
    )
