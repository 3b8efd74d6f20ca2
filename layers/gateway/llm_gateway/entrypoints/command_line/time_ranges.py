"""Ranges of time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from llm_gateway.errors import InvalidParameter
from llm_gateway.usage.rollups import floor_day

_WRITTEN = "ISO 8601, for example 2026-11-01 or 2026-11-01T08:00:00Z; UTC unless it names a zone."
StartOption = Annotated[str, typer.Option(help=f"First moment. {_WRITTEN}", show_default=False)]
EndOption = Annotated[
    str, typer.Option(help="Moment after the last, written in the same way.", show_default=False)
]
OptionalStart = Annotated[str | None, typer.Option(help=f"First moment, instead of --days. {_WRITTEN}")]
OptionalEnd = Annotated[str | None, typer.Option(help="Moment after the last; now.")]
MOST_DAYS = 400


def read_range(start: str, end: str) -> tuple[datetime, datetime]:
    """Two moments in UTC.

    Raises:
        InvalidParameter: One cannot be read, or the second is not after the first.
    """
    first, last = _moment(start, "start"), _moment(end, "end")
    if first >= last:
        raise InvalidParameter("--end must be later than --start.", param="end")
    return first, last


def recent_range(start: str | None, end: str | None, days: int, now: datetime) -> tuple[datetime, datetime]:
    """The range named, or as many days up to and with today, of which each is taken whole."""
    if start is not None:
        return read_range(start, end or now.isoformat())
    if end is not None:
        raise InvalidParameter("--end needs --start.", param="end")
    tomorrow = floor_day(now) + timedelta(days=1)
    return tomorrow - timedelta(days=days), tomorrow


def _moment(text: str, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParameter(
            f"--{name} must look like 2026-11-01 or 2026-11-01T08:00:00Z.", param=name
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
