"""What the tokens of a call cost, exact and unrounded; unknown is None and never 0.

Knows no store and no vendor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from operator import add

from llm_gateway.models.catalogue import ModelPrice, ModelSpec
from llm_gateway.models.completion import TokenUsage

_PER_TOKEN = Decimal(1) / Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Spending:
    """What the vendor billed for one answer, usable or not.

    Attributes:
        model: The model that gave it.
        usage: Its tokens.
    """

    model: ModelSpec
    usage: TokenUsage


def total_usage(spent: Sequence[Spending]) -> TokenUsage:
    """Tokens of all answers of a call; unknown if nothing is known to have been billed."""
    if not spent:
        return TokenUsage()
    return reduce(add, (spending.usage for spending in spent))


def total_cost_usd(spent: Sequence[Spending]) -> Decimal | None:
    """Cost of all answers of a call, each at its own model's price; None if one of them is unknown."""
    costs = [cost_usd(spending.usage, spending.model.price) for spending in spent]
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if costs and len(known) == len(costs) else None


def cost_usd(usage: TokenUsage, price: ModelPrice | None) -> Decimal | None:
    """Price one completion.

    Input tokens read from the vendor's cache, and those written to it, are part of `input_tokens`, not
    added to it, so they leave the full rate first; reasoning tokens are part of `output_tokens` and
    billed like them.

    Args:
        usage: Token counts of one completion; cached and written ones together <= input_tokens.
        price: Rates in USD per 1,000,000 tokens, or None if there is no price.

    Returns:
        USD, exact and unrounded; None if the price or a token count is unknown.

    Raises:
        ValueError: More of them than input tokens: the provider adapter broke TokenUsage's promise.

    Source: OpenAI's usage object, where `cached_tokens` and `cache_write_tokens` are disjoint parts of
    the prompt tokens; rates and their date in models/catalogue.toml.
    """
    if price is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached, written = usage.cached_input_tokens or 0, usage.cache_write_tokens or 0
    plain = usage.input_tokens - cached - written
    if min(cached, written, plain) < 0:
        raise ValueError("cached and written tokens must be parts of input_tokens")
    rates = price.rates(usage.input_tokens)
    return _PER_TOKEN * (
        plain * rates.input
        + cached * rates.cached_input
        + written * rates.cache_write
        + usage.output_tokens * rates.output
    )
