"""`llm-gateway usage`: what calls cost, as tables with bars."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer

from llm_gateway.entrypoints.command_line.output import say, show_json, show_table
from llm_gateway.entrypoints.command_line.prompts import AsJson
from llm_gateway.entrypoints.command_line.stores import UsageStores
from llm_gateway.entrypoints.command_line.time_ranges import (
    MOST_DAYS,
    OptionalEnd,
    OptionalStart,
    recent_range,
)
from llm_gateway.errors import InvalidParameter
from llm_gateway.formats import to_decimal_text, to_iso
from llm_gateway.usage.rollups import (
    RollupStore,
    Totals,
    UsageQuestion,
    UsageRow,
    answer,
    ceil_hour,
    floor_hour,
)

_BAR = 24
_NUMBERS = ("calls", "errors", "tokens in", "tokens out", "cost USD")


class By(StrEnum):
    """What a table's lines stand for."""

    SERVICE = "service"
    MODEL = "model"
    PROMPT = "prompt"
    DAY = "day"


_DIMENSIONS = {
    By.SERVICE: ("calling_service",),
    By.MODEL: ("provider", "model"),
    By.PROMPT: ("prompt",),
    By.DAY: (),
}


def show(
    context: typer.Context,
    by: Annotated[list[By] | None, typer.Option(help="A table for each; all four by default.")] = None,
    days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="So many days, today included.")] = 7,
    start: OptionalStart = None,
    end: OptionalEnd = None,
    as_json: AsJson = False,
) -> None:
    """Sums per service, model, prompt and day: `llm-gateway usage show --by service --by day --days 30`.

    Whole hours in UTC. Bars are shares of the cost, or of the calls where nothing cost anything. Calls in
    test mode are included, with the cost they would have had.
    """
    stores: UsageStores = context.obj.usage()
    first, last = recent_range(start, end, days, datetime.now(UTC))
    first, last = floor_hour(first), ceil_hour(last)
    if last - first > timedelta(days=MOST_DAYS):
        raise InvalidParameter(f"The range must not be longer than {MOST_DAYS} days.", param="end")
    kinds = list(dict.fromkeys(by or By))
    tables = asyncio.run(_tables(stores.rollups, kinds, first, last))
    if as_json:
        found = {kind.value: [_as_json(row) for row in rows] for kind, rows in tables.items()}
        show_json({"start": to_iso(first), "end": to_iso(last), "by": found})
        return
    say(f"{to_iso(first)} to {to_iso(last)}", "dim")
    for kind, rows in tables.items():
        say("")
        _show(kind, rows)


async def _tables(
    rollups: RollupStore, kinds: Sequence[By], start: datetime, end: datetime
) -> dict[By, list[UsageRow]]:
    tables = {}
    for kind in kinds:
        width = "day" if kind is By.DAY else "total"
        rows = await answer(rollups, UsageQuestion(start, end, width, group_by=_DIMENSIONS[kind]))  # type: ignore[arg-type]
        dearest_first = sorted(rows, key=lambda row: (-row.totals.cost_usd, -row.totals.requests))
        tables[kind] = rows if kind is By.DAY else dearest_first
    return tables


def _show(kind: By, rows: Sequence[UsageRow]) -> None:
    total = sum((row.totals for row in rows), Totals())
    lines = [[_name(kind, row), *_cells(row.totals), _bar(row.totals, total)] for row in rows]
    show_table([kind.value, *_NUMBERS, "share"], [*lines, ["sum", *_cells(total), ""]], _NUMBERS)
    if total.unpriced:
        say(f"{total.unpriced} answered calls have no known cost, so the cost lacks them.", "yellow")


def _name(kind: By, row: UsageRow) -> str:
    if kind is By.DAY:
        return f"{row.start:%Y-%m-%d}"
    values = [str(value) for value in row.group.values() if value is not None]
    return "/".join(values) if values else "(not named)"


def _cells(totals: Totals) -> list[str]:
    counts = (totals.requests, totals.errors, totals.input_tokens, totals.output_tokens)
    return [*(f"{count:,}" for count in counts), to_decimal_text(totals.cost_usd)]


def _bar(totals: Totals, total: Totals) -> str:
    part = (
        totals.cost_usd / total.cost_usd
        if total.cost_usd
        else Decimal(totals.requests) / (total.requests or 1)
    )
    return f"{'█' * round(part * _BAR):<{_BAR}} {part:>4.0%}"


def _as_json(row: UsageRow) -> dict[str, Any]:
    totals = {**asdict(row.totals), "cost_usd": to_decimal_text(row.totals.cost_usd)}
    return {"start": to_iso(row.start), "group": dict(row.group), "totals": totals}
