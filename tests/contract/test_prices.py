"""models.toml and our arithmetic against the price list they were taken from."""

from __future__ import annotations

from genai_prices import Usage, calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.model_catalogue import ModelCatalogue
from llm_gateway.models import TokenUsage
from llm_gateway.usage import cost_usd
from tests.fakes import NOON

PRICES_DATED = NOON  # the day models.toml was made


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from([spec.name for spec in ModelCatalogue.packaged()]),
    tokens_in=st.integers(0, 1_000_000),
    cached_share=st.integers(0, 100),
    tokens_out=st.integers(0, 128_000),
)
def test_every_price_is_what_the_price_list_says(
    model: str, tokens_in: int, cached_share: int, tokens_out: int
) -> None:
    cached = tokens_in * cached_share // 100
    listed = calc_price(
        Usage(input_tokens=tokens_in, cache_read_tokens=cached, output_tokens=tokens_out),
        model_ref=model,
        provider_id="openai",
        genai_request_timestamp=PRICES_DATED,
    )
    price = ModelCatalogue.packaged().find("openai", model).price
    assert cost_usd(TokenUsage(tokens_in, tokens_out, cached), price) == listed.total_price
