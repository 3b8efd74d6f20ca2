"""The most that one call can be billed, known before a model is asked.

Input: a tokenizer that works on bytes makes at most one token of each byte, so bytes bound tokens, and
no vendor takes more than the model's context. Output: `max_tokens`, else the model's maximum.

Answers: an attempt that is followed by another one at the same or the next model failed in a way that
may pass (rate limit, outage, lost connection), and vendors bill nothing for those. So at most one answer
of one of the routes is billed, and where a repair is allowed one more of the same model, which reads the
first answer again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

from llm_gateway.budgets.limits import Amount
from llm_gateway.models.catalogue import ModelPrice, ModelSpec
from llm_gateway.models.messages import Message
from llm_gateway.models.routing import Route

_PER_MESSAGE = 16  # its role and ends, generously
_PER_CALL = 64  # what a vendor puts around all messages, generously
_REPAIR = 4_096  # what a request for a repair says was wrong, generously
_PER_TOKEN = Decimal(1) / Decimal(1_000_000)


def most_of_call(routes: Sequence[Route], messages: Sequence[Message], *, repair: bool) -> Amount:
    """The largest bill of a call; models without a price add nothing to its dollars.

    Args:
        routes: Whose models may answer.
        messages: What they are asked.
        repair: True if the model may be asked once more for JSON that fits.
    """
    bills = [_bill(route, messages, repair=repair) for route in routes]
    return Amount(max(bill.usd for bill in bills), max(bill.tokens for bill in bills))


def _bill(route: Route, messages: Sequence[Message], *, repair: bool) -> Amount:
    model = route.model
    read = min(_input_tokens(route, messages), model.context_tokens)
    written = route.options.max_tokens or model.max_output_tokens
    answers = [(read, written)]
    if repair:
        answers.append((min(read + written + _REPAIR, model.context_tokens), written))
    return Amount(
        usd=sum((_most_usd(model, *answer) for answer in answers), Decimal(0)),
        tokens=sum(sum(answer) for answer in answers),
    )


def _input_tokens(route: Route, messages: Sequence[Message]) -> int:
    schema = route.options.output_schema
    told = 0 if schema is None else len(json.dumps(schema).encode())
    return _PER_CALL + told + sum(_PER_MESSAGE + len(message.content.encode()) for message in messages)


def _most_usd(model: ModelSpec, read: int, written: int) -> Decimal:
    """Dollars of so many tokens or fewer: at the dearest of the rates that could apply."""
    if model.price is None:
        return Decimal(0)
    rates = _rates(model.price, read)
    reading, writing = max(rate for rate, _ in rates), max(rate for _, rate in rates)
    return _PER_TOKEN * (reading * read + writing * written)


def _rates(price: ModelPrice, read: int) -> list[tuple[Decimal, Decimal]]:
    """Rates of input and output for a short call and for one of `read` tokens."""
    tiers = [price.rates(0), price.rates(read)]
    return [(max(tier.input, tier.cached_input, tier.cache_write), tier.output) for tier in tiers]
