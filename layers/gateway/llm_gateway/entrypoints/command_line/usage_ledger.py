"""Commands about the ledger: export, rebuild, recover."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer

from llm_gateway.entrypoints.command_line.output import fail, say, show_table
from llm_gateway.entrypoints.command_line.stores import UsageStores
from llm_gateway.entrypoints.command_line.time_ranges import EndOption, StartOption, read_range
from llm_gateway.formats import to_decimal_text, to_iso
from llm_gateway.usage.export import csv_writer, export_ledger, json_writer
from llm_gateway.usage.rebuild import Drift, Rebuild, RebuildReport, Span, closed_spans


class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSONL = "jsonl"


def export(
    context: typer.Context,
    start: StartOption,
    end: EndOption,
    format: Annotated[Format, typer.Option(help="CSV, or a JSON object for each line.")] = Format.CSV,
    output: Annotated[Path | None, typer.Option(help="A file; standard output.", dir_okay=False)] = None,
) -> None:
    """Every call of a range, for finance: `llm-gateway usage export --start 2026-11-01 --end 2026-12-01`.

    One line for each call, in order of time; what is unknown is empty, or null. A text that a spreadsheet
    would take for a formula has an apostrophe before it. A file appears once it is complete.
    """
    stores: UsageStores = context.obj.usage()
    first, last = read_range(start, end)
    with _written(output) as stream:
        write = csv_writer(stream) if format is Format.CSV else json_writer(stream)
        calls = asyncio.run(export_ledger(stores.reader, first, last, write))
        if stores.reader.unreadable:
            raise fail(f"{stores.reader.unreadable} items cannot be read; the export would lack them.")
    if output is not None:
        say(f"{calls} calls are in {output}")


def rebuild(
    context: typer.Context,
    start: StartOption,
    end: EndOption,
    dry_run: Annotated[bool, typer.Option(help="Only tell what differs.")] = False,
    lower: Annotated[bool, typer.Option(help="Mend sums of more calls than the ledger has, too.")] = False,
) -> None:
    """Mend sums from the ledger: `llm-gateway usage rebuild --start 2026-11-01 --end 2026-11-08 --dry-run`.

    Whole hours around the range, and days that are in it as a whole, once they are over for an hour. Calls
    may come in meanwhile: a sum that changes while it is compared is left as it is and compared again.
    Sums that count more calls than the ledger has are only mended with --lower. Exit code 1 if a
    difference remains.
    """
    stores: UsageStores = context.obj.usage()
    first, last = read_range(start, end)
    spans = closed_spans(first, last, datetime.now(UTC), stores.retention)
    work = Rebuild(stores.reader, stores.rollups, repair=not dry_run, lower=lower)
    report = asyncio.run(_rebuilt(work, spans))
    say(f"{to_iso(spans[0].start)} to {to_iso(spans[-1].end)}", "dim")
    _tell(report, dry_run)
    if stores.reader.unreadable:
        raise fail(f"{stores.reader.unreadable} items on the ledger cannot be read.")
    if any(drift.outcome != "repaired" for drift in report.drifts) or (dry_run and report.uncounted):
        raise typer.Exit(1)


def recover(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Log lines; standard input.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Put calls on the ledger that only the log has: `llm-gateway usage recover lines.json`.

    Reads lines `usage not recorded`, as CloudWatch Logs gives them, and skips others. A call that is on the
    ledger already stays as it is, so the same lines may be given any number of times.
    """
    stores: UsageStores = context.obj.usage()
    if file is None:
        written, damaged = asyncio.run(_recovered(stores, sys.stdin))
    else:
        with file.open(encoding="utf-8") as lines:
            written, damaged = asyncio.run(_recovered(stores, lines))
    say(f"{written} calls are on the ledger.")
    if damaged:
        raise fail(f"Damaged lines: {', '.join(map(str, damaged))}.")


async def _recovered(stores: UsageStores, lines: Iterable[str]) -> tuple[int, list[int]]:
    from llm_gateway.usage.recovery import record_of_line

    written, damaged = 0, list[int]()
    for number, line in enumerate(lines, start=1):
        try:
            record = record_of_line(line)
        except ValueError:
            damaged.append(number)
            continue
        if record is not None:
            await stores.ledger.record(record)
            written += 1
    return written, damaged


async def _rebuilt(work: Rebuild, spans: list[Span]) -> RebuildReport:
    report = RebuildReport()
    for span in spans:
        report.add(await work.run(span))
    return report


def _tell(report: RebuildReport, dry_run: bool) -> None:
    if report.drifts:
        headings = ["bucket", "of", "calls", "on the ledger", "USD", "by the ledger", ""]
        show_table(headings, map(_row, report.drifts))
    differ = len(report.drifts)
    say(f"{report.rollups} sums compared with {report.calls} calls on the ledger: {differ} differ.")
    if report.uncounted:
        what = "are in no sum" if dry_run else "were in no sum and are counted now"
        say(f"{report.uncounted} calls {what}.")


def _row(drift: Drift) -> list[str]:
    rollup, ledger = drift.stored.rollup, drift.ledger
    of = rollup.dimensions
    names = (of.calling_service or "(not named)", of.model, of.prompt, of.status)
    costs = to_decimal_text(rollup.totals.cost_usd), to_decimal_text(ledger.cost_usd)
    return [
        f"{rollup.width} {to_iso(rollup.start)}", " ".join(names),
        str(rollup.totals.requests), str(ledger.requests), *costs, drift.outcome,
    ]  # fmt: skip


@contextmanager
def _written(output: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that takes its name when all is in it."""
    if output is None:
        yield sys.stdout
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it tells who calls what
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
