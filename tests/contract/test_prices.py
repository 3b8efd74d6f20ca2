"""models/catalogue.toml and our arithmetic against the price list they were taken from."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import date

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.errors import UnknownModel
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.pricing import cost_usd
from tests.fakes import NOON

PRICES_DATED = NOON  # the day models/catalogue.toml was made
SPECS = list(ModelCatalogue.packaged())
names = st.sampled_from([name for spec in SPECS for name in (spec.name, *spec.aliases)])
days = st.dates(date(2023, 1, 1), date(2035, 12, 31))
dated_names = st.builds("{}-{}".format, st.sampled_from([s.name for s in SPECS if s.any_date]), days)


@settings(max_examples=200, deadline=None)
@given(
    model=names | dated_names,
    tokens_in=st.integers(0, 1_000_000),
    cached_share=st.integers(0, 100),
    written_share=st.integers(0, 100),
    tokens_out=st.integers(0, 128_000),
)
def test_every_price_is_what_the_price_list_says(
    model: str, tokens_in: int, cached_share: int, written_share: int, tokens_out: int
) -> None:
    cached = tokens_in * cached_share // 100
    written = (tokens_in - cached) * written_share // 100
    listed = calc_price(
        Usage(
            input_tokens=tokens_in,
            cache_read_tokens=cached,
            cache_write_tokens=written,
            output_tokens=tokens_out,
        ),
        model_ref=model,
        provider_id="openai",
        genai_request_timestamp=PRICES_DATED,
    )
    price = ModelCatalogue.packaged().find("openai", model).price
    assert cost_usd(TokenUsage(tokens_in, tokens_out, cached, 0, written), price) == listed.total_price


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("gpt-5-chat-latest", "gpt-5"),
        ("gpt-5.5-chat-latest", "gpt-5.5"),
        ("gpt-5-nano-2025-08-07", "gpt-5-nano"),
        ("gpt-6-luna-2026-10-01", "gpt-6-luna"),
        ("gpt-6.1-terra-2027-01-31", "gpt-6.1-terra"),
    ],
)
def test_latest_names_and_dates_that_the_list_knows_by_a_pattern_find_their_row(name: str, row: str) -> None:
    catalogue = ModelCatalogue.packaged()
    found, family = catalogue.find("openai", name), catalogue.find("openai", row)
    assert (found.name, found.price) == (name, family.price)
    assert found.price is not None


@pytest.mark.parametrize("name", ["gpt-5-nano-0807", "gpt-6-luna-1001"])
def test_a_pattern_of_days_knows_no_other_dates(name: str) -> None:
    assert ModelCatalogue.packaged().find("openai", name).price is None


def test_a_date_that_the_list_does_not_know_has_its_familys_limits_and_no_price() -> None:
    catalogue = ModelCatalogue.packaged()
    known, unknown = catalogue.find("openai", "gpt-4o"), catalogue.find("openai", "gpt-4o-2031-01-01")
    assert (unknown.name, unknown.max_output_tokens) == ("gpt-4o-2031-01-01", known.max_output_tokens)
    assert unknown.price is None
    assert cost_usd(TokenUsage(1000, 200), unknown.price) is None


@pytest.mark.parametrize("name", ["gpt-4-0613", "gpt-3.5-turbo-0125", "gpt-4-turbo-2024-04-09"])
def test_dated_names_of_every_spelling_find_their_row(name: str) -> None:
    assert ModelCatalogue.packaged().find("openai", name).price is not None


def test_models_that_once_cost_something_else_do_not_take_their_familys_price() -> None:
    catalogue = ModelCatalogue.packaged()
    for name in ("gpt-3.5-turbo-0613", "gpt-3.5-turbo-1106"):
        assert catalogue.find("openai", name).price is None
    old, new = (catalogue.find("openai", name).price for name in ("gpt-4o-2024-05-13", "gpt-4o"))
    assert old != new


def test_no_dated_name_of_the_list_is_billed_at_another_price_than_the_lists() -> None:
    [openai] = [provider for provider in get_snapshot().providers if provider.id == "openai"]
    clauses = [c for model in openai.models for c in getattr(model.match, "or_", [model.match])]
    names = {c.equals for c in clauses if hasattr(c, "equals")}
    priced = []
    for name in sorted(names):
        with suppress(UnknownModel):
            priced += (
                [(name, price)] if (price := ModelCatalogue.packaged().find("openai", name).price) else []
            )
    assert len(priced) > 40
    for name, price in priced:
        for tokens_in, cached, tokens_out in ((1_000, 100, 50), (500_000, 100_000, 7)):
            usage = Usage(input_tokens=tokens_in, cache_read_tokens=cached, output_tokens=tokens_out)
            listed = calc_price(
                usage, model_ref=name, provider_id="openai", genai_request_timestamp=PRICES_DATED
            )
            assert cost_usd(TokenUsage(tokens_in, tokens_out, cached), price) == listed.total_price, name


def test_the_packaged_prices_are_those_of_the_installed_list() -> None:
    done = subprocess.run([sys.executable, "-m", "prices", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
