"""Writes the prices and dated names of models/catalogue.toml from the genai-prices package, or checks them.

python -m prices           write them
python -m prices --check   fail if a price or a name is not what the package says
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import data_snapshot

MODELS = Path(__file__).parent.parent / "layers" / "gateway" / "llm_gateway" / "models" / "catalogue.toml"
_PACKAGE = "genai-prices"
_RATES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
_GENERATED = re.compile(r"^(price|aliases|any_date) = .*\n", re.M)
_SOME_DAYS = ("2024-02-29", "2031-01-01")  # no model is of these: who knows them knows any


def main() -> int:
    """Write or check; the exit code says whether all is well."""
    before = MODELS.read_text(encoding="utf-8")
    after = "".join(_blocks(before))
    if "--check" in sys.argv:
        problems = list(_problems(before, after))
        print(
            *problems,
            "run `make prices-update`" if problems else "models/catalogue.toml is current",
            sep="\n",
        )
        return 1 if problems else 0
    today = datetime.now(UTC).date()
    source = f'source = "genai-prices {version(_PACKAGE)}"'
    after = re.sub(r'^source = ".*"$', source, after, flags=re.M)
    after = re.sub(r"^date = .*$", f"date = {today}", after, flags=re.M)
    MODELS.write_text(after, encoding="utf-8")
    print(f"wrote {MODELS.name}")
    return 0


def _problems(before: str, after: str) -> Iterator[str]:
    listed = f"genai-prices {version(_PACKAGE)}"
    if f'source = "{listed}"' not in before:
        yield f"the source is not {listed}"
    known = {model.id for model in _openai().models}
    for new, old in zip(_rows(after), _rows(before), strict=True):
        if _name(old) not in known:
            yield f"{_name(old)} is not in {listed}"
        elif new != old:
            yield f"{_name(old)} is not what {listed} says:"
            yield from (f"  - {line}" for line in old.splitlines() if line not in new.splitlines())
            yield from (f"  + {line}" for line in new.splitlines() if line not in old.splitlines())


def _openai() -> Any:
    [openai] = [provider for provider in data_snapshot.get_snapshot().providers if provider.id == "openai"]
    return openai


def _rows(text: str) -> list[str]:
    return [block for block in re.split(r"(?=\[\[models\]\])", text) if block.startswith("[[models]]")]


def _name(block: str) -> str:
    return block.split('name = "', 1)[1].split('"', 1)[0]


def _blocks(text: str) -> Iterator[str]:
    """The text with every row's price and aliases made anew."""
    now = datetime.now(UTC)
    listed = {model.id: model for model in _openai().models}
    for block in re.split(r"(?=\[\[models\]\])", text):
        model = listed.get(_name(block)) if block.startswith("[[models]]") else None
        if model is None:
            yield block
            continue
        own, end = _GENERATED.sub("", block).rstrip("\n"), "\n" * (len(block) - len(block.rstrip("\n")))
        aliases = _aliases(model)
        quoted = ", ".join(json.dumps(alias) for alias in aliases)
        lines = [f"aliases = [{quoted}]"] if aliases else []
        lines += ["any_date = true"] if _knows_any_date(model) else []
        yield "\n".join([own, *lines, f"price = {_price(model.get_prices(now))}"]) + end


def _aliases(model: Any) -> list[str]:
    """Dated and `-latest` names that are billed like the model: those the list names one by one."""
    clauses = getattr(model.match, "or_", [model.match])
    names = {getattr(clause, "equals", "") for clause in clauses}
    another = re.compile(rf"{re.escape(model.id)}(-\d{{4}}(-\d\d-\d\d)?|(-[a-z]+)?-latest)")
    return sorted(name for name in names if another.fullmatch(name))


def _knows_any_date(model: Any) -> bool:
    """True if the list finds the model, by a pattern, under its name with any day after it."""
    found = [_openai().find_model(f"{model.id}-{day}") for day in _SOME_DAYS]
    return all(one is not None and one.id == model.id for one in found)


def _price(prices: Any) -> str:
    rates: dict[str, str] = {}
    long_rates: dict[str, str] = {}
    for name, field in _RATES.items():
        rate = getattr(prices, field, None)
        tiers = getattr(rate, "tiers", [])
        if rate is None:
            continue
        rates[name] = _quoted(rate.base if tiers else rate)
        if len(tiers) > 1:
            raise ValueError(f"models/catalogue.toml knows one threshold, the list has {len(tiers)}")
        for tier in tiers:
            if long_rates.get("long_above", f"{tier.start:_}") != f"{tier.start:_}":
                raise ValueError("models/catalogue.toml knows one threshold for all rates of a model")
            long_rates |= {"long_above": f"{tier.start:_}", f"long_{name}": _quoted(tier.price)}
    fields = ", ".join(f"{name} = {value}" for name, value in {**rates, **long_rates}.items())
    return f"{{ {fields} }}"


def _quoted(rate: Decimal) -> str:
    return f'"{rate.normalize():f}"'


if __name__ == "__main__":
    sys.exit(main())
