"""`llm-gateway usage`, over usage in memory."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage_repair import SqliteUsageRepair
from llm_gateway.entrypoints.command_line.app import create_app
from llm_gateway.entrypoints.command_line.stores import Place, UsageStores, open_usage
from llm_gateway.errors import GatewayError, StoreUnavailable
from llm_gateway.models.completion import TokenUsage
from llm_gateway.telemetry.cloudwatch import EmbeddedMetrics
from llm_gateway.telemetry.logs import Telemetry
from llm_gateway.usage.export import COLUMNS
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.recovery import record_of_line
from llm_gateway.usage.rollups import Totals
from tests.fakes import InMemoryUsage

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = TODAY - timedelta(days=2)  # over for long enough at any time of day
RANGE = ("--start", YESTERDAY.isoformat(), "--end", (YESTERDAY + timedelta(days=1)).isoformat())


def call(number: int, **changes: object) -> UsageRecord:
    plain = UsageRecord(
        call_id=f"call-{number}",
        request_id=f"request-{number}",
        started_at=YESTERDAY + timedelta(hours=10, seconds=number),
        status="answered",
        error_code=None,
        calling_service="shop",
        correlation_id=None,
        prompt="support/reply.prompt",
        prompt_version="v1",
        provider="openai",
        model="gpt-4o-mini",
        usage=TokenUsage(1000, 200, 0, 0),
        cost_usd=Decimal("0.000300"),
        latency_ms=10,
        attempts=1,
        test_mode=False,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def usage() -> InMemoryUsage:
    return InMemoryUsage()


def kept(usage: InMemoryUsage, *records: UsageRecord) -> None:
    async def keep() -> None:
        for record in records:
            await usage.record(record)
        await usage.count(records)

    asyncio.run(keep())


def run(usage: InMemoryUsage, *arguments: str, lines: str | None = None) -> Result:
    stores = UsageStores(usage, usage, usage, timedelta(days=400))
    app = create_app(opened_usage=lambda _: stores)
    return CliRunner().invoke(app, ["usage", *arguments], input=lines)


def refusal(result: Result) -> str:
    assert isinstance(result.exception, GatewayError)
    return result.exception.message


def test_usage_alone_shows_a_table_with_bars_for_each_kind(usage: InMemoryUsage) -> None:
    dear = call(1, calling_service="shop", cost_usd=Decimal("0.75"))
    cheap = call(2, calling_service=None, prompt="a.md", cost_usd=Decimal("0.25"), status="failed")
    kept(usage, dear, cheap)
    result = run(usage)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if "share" in line] == ["service", "model", "prompt", "day"]
    [shop] = [line for line in lines if line.startswith("shop")]
    assert shop.split()[1:6] == ["1", "0", "1,000", "200", "0.75"]
    assert shop.count("█") == 18
    assert shop.rstrip().endswith("75%")
    assert any(line.startswith("(not named)") and "25%" in line for line in lines)
    assert any(line.startswith("openai/gpt-4o-mini") for line in lines)
    assert f"{YESTERDAY:%Y-%m-%d}" in result.stdout


def test_the_tables_asked_for_come_one_after_the_other(usage: InMemoryUsage) -> None:
    kept(usage, call(1), call(2, started_at=YESTERDAY - timedelta(days=1)))
    result = run(usage, "show", "--by", "day", "--by", "service", "--days", "30", "--json")
    answer = json.loads(result.stdout)
    assert list(answer["by"]) == ["day", "service"]
    assert [row["totals"]["requests"] for row in answer["by"]["day"]] == [1, 1]
    [shop] = answer["by"]["service"]
    assert shop["group"] == {"calling_service": "shop"}
    assert (shop["totals"]["cost_usd"], shop["totals"]["input_tokens"]) == ("0.0006", 2000)


def test_calls_outside_the_range_are_not_shown(usage: InMemoryUsage) -> None:
    kept(usage, call(1), call(2, started_at=YESTERDAY - timedelta(days=20)))
    for arguments in (["--days", "7"], list(RANGE)):
        answer = json.loads(run(usage, "show", "--by", "model", *arguments, "--json").stdout)
        assert answer["by"]["model"][0]["totals"]["requests"] == 1


def test_without_any_cost_the_bars_are_shares_of_the_calls_and_unpriced_ones_are_told(
    usage: InMemoryUsage,
) -> None:
    kept(usage, call(1, cost_usd=None), call(2, cost_usd=None, calling_service="billing"))
    result = run(usage, "show", "--by", "service")
    assert result.stdout.count("50%") == 2
    assert "2 answered calls have no known cost" in result.stdout


def test_no_calls_are_an_empty_table(usage: InMemoryUsage) -> None:
    result = run(usage, "show", "--by", "service")
    assert result.exit_code == 0
    assert "sum" in result.stdout


printable = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=64)


@settings(max_examples=40, deadline=None)
@given(services=st.sets(printable, min_size=1, max_size=4))
@example(services={"[red]x[/red]", "a\\b", "{0}", "%s", "\U0001f9fe"})
def test_any_printable_service_is_shown(services: set[str]) -> None:
    usage = InMemoryUsage()
    kept(usage, *(call(n, calling_service=service) for n, service in enumerate(sorted(services))))
    assert run(usage, "show", "--by", "service").exit_code == 0
    listed = json.loads(run(usage, "show", "--by", "service", "--json").stdout)["by"]["service"]
    assert {row["group"]["calling_service"] for row in listed} == services


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "--start", "yesterday"], "must look like"),
        (["show", "--end", "2026-11-01"], "--start"),
        (["show", "--start", "2026-11-02", "--end", "2026-11-01"], "later"),
        (["show", "--start", "2020-01-01", "--end", "2026-11-01"], "400 days"),
        (["export", "--start", "2026-11-01", "--end", "x"], "must look like"),
        (["rebuild", "--start", "2020-01-01", "--end", "2020-01-02"], "400 days"),
    ],
)
def test_a_range_that_cannot_be_is_refused_with_a_reason(
    usage: InMemoryUsage, arguments: Sequence[str], told: str
) -> None:
    assert told in refusal(run(usage, *arguments))


def test_an_export_has_a_line_for_each_call_in_order_of_time(usage: InMemoryUsage) -> None:
    late = call(3, started_at=YESTERDAY + timedelta(days=1))
    unknown = call(1, usage=TokenUsage(), cost_usd=None, calling_service=None, status="timed_out")
    kept(usage, call(2), unknown, late)
    rows = list(csv.DictReader(io.StringIO(run(usage, "export", *RANGE).stdout)))
    assert [row["call_id"] for row in rows] == ["call-1", "call-2"]
    assert tuple(rows[0]) == COLUMNS
    assert [rows[0][name] for name in ("input_tokens", "cost_usd", "calling_service")] == ["", "", ""]
    assert [rows[1][name] for name in ("input_tokens", "cost_usd", "test_mode")] == [
        "1000",
        "0.0003",
        "false",
    ]
    lines = run(usage, "export", *RANGE, "--format", "jsonl").stdout.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert tuple(first) == COLUMNS
    assert (first["cost_usd"], first["output_tokens"], second["cost_usd"]) == (None, None, "0.0003")


def test_an_export_to_a_file_is_its_owners_alone(usage: InMemoryUsage, tmp_path: Path) -> None:
    kept(usage, call(1))
    output, before = tmp_path / "calls.csv", os.umask(0)
    try:
        run(usage, "export", *RANGE, "--output", str(output))
    finally:
        os.umask(before)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert output.read_text().count("call-1") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["calls.csv"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "'=", "\t", "\r"])
def test_a_callers_text_is_no_formula_in_a_spreadsheet(usage: InMemoryUsage, sign: str) -> None:
    text = f'{sign}HYPERLINK("http://x","y"), "z"'
    kept(usage, call(1, calling_service=text, correlation_id=text))
    [row] = csv.DictReader(io.StringIO(run(usage, "export", *RANGE).stdout, newline=""))
    assert row["calling_service"] == row["correlation_id"] == f"'{text}"
    told = json.loads(run(usage, "export", *RANGE, "--format", "jsonl").stdout)
    assert told["calling_service"] == text


def test_only_what_is_before_a_formula_is_escaped(usage: InMemoryUsage) -> None:
    kept(usage, call(1, calling_service="'s-Hertogenbosch", metadata={"b": "=1", "a": "x"}))
    [row] = csv.DictReader(io.StringIO(run(usage, "export", *RANGE).stdout, newline=""))
    assert (row["calling_service"], row["metadata"]) == ("'s-Hertogenbosch", '{"a":"x","b":"=1"}')


def test_an_exported_file_appears_once_it_is_complete(usage: InMemoryUsage, tmp_path: Path) -> None:
    kept(usage, call(1))
    path = tmp_path / "november.csv"
    usage.unreadable = 1
    assert run(usage, "export", *RANGE, "--output", str(path)).exit_code == 1
    assert list(tmp_path.iterdir()) == []
    usage.unreadable = 0
    assert "1 calls" in run(usage, "export", *RANGE, "--output", str(path)).stdout
    assert [line.partition(",")[0] for line in path.read_text().splitlines()] == ["call_id", "call-1"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_rebuild_tells_what_differs_then_mends_it_then_finds_nothing(usage: InMemoryUsage) -> None:
    kept(usage, call(1), call(2))
    asyncio.run(usage.record(call(3)))
    for key, totals in usage.sums.items():
        usage.sums[key] = replace(totals, input_tokens=5)
    told = run(usage, "rebuild", *RANGE, "--dry-run")
    assert told.exit_code == 1
    assert "2 differ" in told.stdout
    assert "1 calls are in no sum" in told.stdout
    assert usage.counted == {"call-1", "call-2"}
    mended = run(usage, "rebuild", *RANGE)
    assert mended.exit_code == 0
    assert mended.stdout.count("repaired") == 2
    assert "counted now" in mended.stdout
    again = run(usage, "rebuild", *RANGE)
    assert (again.exit_code, "0 differ" in again.stdout) == (0, True)
    assert {totals.input_tokens for totals in usage.sums.values()} == {3000}


def test_a_rebuild_that_leaves_a_difference_fails(usage: InMemoryUsage) -> None:
    kept(usage, call(1))
    key = next(iter(usage.sums))
    usage.sums[key] = usage.sums[key] + Totals(requests=4)
    kept_as_it_is = run(usage, "rebuild", *RANGE)
    assert kept_as_it_is.exit_code == 1
    assert "kept" in kept_as_it_is.stdout
    assert run(usage, "rebuild", *RANGE, "--lower").exit_code == 0


def logged(records: Sequence[UsageRecord], capture: pytest.CaptureFixture[str], name: str) -> list[str]:
    """Lines as a function writes them when neither ledger nor queue takes a record."""
    telemetry = Telemetry(name, "local", "INFO", EmbeddedMetrics(name, "local"))
    for record in records:
        telemetry.usage_not_recorded(record, StoreUnavailable("…", details={"reason": "Throttled"}))
    return capture.readouterr().out.splitlines()


RECORDS = [
    call(1),
    call(
        2,
        usage=TokenUsage(),
        cost_usd=None,
        calling_service=None,
        error_code="provider_timeout",
        status="failed",
    ),
    call(3, calling_service='{"message": "✓"} = tab', cost_usd=Decimal("0.000000000001")),
    call(4, metadata={"team": "✓", "message": "x"}, usage=TokenUsage(1000, 200, 100, 0, 300)),
]


def test_what_only_the_log_has_is_put_on_the_ledger_once_with_its_own_id(
    usage: InMemoryUsage, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = logged(RECORDS, capsys, "recovered")
    for _ in range(2):
        result = run(
            usage, "recover", lines="\n".join([*lines, "START RequestId: x", "", '{"message": "x"}'])
        )
        assert (result.exit_code, "4 calls" in result.stdout) == (0, True)
    assert list(usage.records.values()) == RECORDS


def test_lines_may_be_as_the_tools_of_cloudwatch_print_them(capsys: pytest.CaptureFixture[str]) -> None:
    line = logged(RECORDS[:1], capsys, "printed")[0]
    wrapped = json.dumps({"timestamp": 1, "message": line})
    insights = json.dumps({"@timestamp": "1", "@message": line})
    for form in (line, f"2026-11-23T10:00:00Z stream/[1]abc {line}", wrapped, insights):
        assert record_of_line(form) == RECORDS[0]


def test_a_damaged_line_is_named_and_the_others_are_recovered(
    usage: InMemoryUsage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = logged(RECORDS[:1], capsys, "damaged")[0]
    timeless = {name: value for name, value in json.loads(line).items() if name != "started_at"}
    zoneless = {**json.loads(line), "started_at": "2026-11-23T10:00:00"}
    path = tmp_path / "lines.json"
    path.write_text("\n".join([json.dumps(timeless), line[:-20], line, json.dumps(zoneless)]))
    result = run(usage, "recover", str(path))
    assert result.exit_code == 1
    assert "1, 2, 4" in result.stderr
    assert list(usage.records) == ["call-1"]


def run_on_file(path: Path, *arguments: str, lines: str | None = None) -> Result:
    return CliRunner().invoke(create_app(), ["--usage-file", str(path), "usage", *arguments], input=lines)


def test_a_usage_file_is_shown_exported_recovered_into_and_rebuilt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "usage.db"
    SqliteFile(path).close()
    recovered = run_on_file(path, "recover", lines="\n".join(logged(RECORDS, capsys, "filed")))
    assert (recovered.exit_code, "4 calls" in recovered.stdout) == (0, True)
    shown = json.loads(run_on_file(path, "show", "--by", "model", "--json").stdout)
    assert shown["by"]["model"][0]["totals"]["requests"] == 4
    exported = run_on_file(path, "export", *RANGE, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["call_id"] for line in exported] == [one.call_id for one in RECORDS]
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(
            "UPDATE rollup SET totals = json_set(totals, '$.input_tokens', '5'), revision = revision + 1"
        )
    told = run_on_file(path, "rebuild", *RANGE)
    assert (told.exit_code, "repaired" in told.stdout) == (0, True)
    assert "0 differ" in run_on_file(path, "rebuild", *RANGE).stdout


def test_the_environment_may_name_the_usage_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "usage.db"
    monkeypatch.setenv("LLM_GATEWAY_USAGE_FILE", str(path))
    with pytest.raises(GatewayError, match="no usage file"):
        open_usage(Place())
    assert not path.exists()
    SqliteFile(path).close()
    with closing(open_usage(Place())) as stores:
        assert isinstance(stores.reader, SqliteUsageRepair)


def test_without_a_place_the_command_says_how_to_name_one() -> None:
    with pytest.raises(GatewayError, match="--stack NAME"):
        open_usage(Place(folder="prompts"))


@pytest.mark.parametrize("command", ["show", "export", "rebuild", "recover"])
def test_every_command_has_help_with_an_example(usage: InMemoryUsage, command: str) -> None:
    result = run(usage, command, "--help")
    assert result.exit_code == 0
    assert "llm-gateway usage" in result.stdout
    assert "usage show --by" in run(usage, "--help").stdout
