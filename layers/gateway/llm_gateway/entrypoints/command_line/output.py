"""What commands print: tables for people, JSON for machines, one clear sentence for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from difflib import unified_diff
from typing import Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llm_gateway.json_schema.values import Json

_PIPE_WIDTH = 160
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def say(text: str, style: str | None = None) -> None:
    """A line on standard output, as it is."""
    Console(soft_wrap=True, highlight=False, markup=False).print(text, style=style)


def note(text: str) -> None:
    """A line on standard error: what people should know and pipes should not get."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(text, style="dim")


def fail(message: str) -> typer.Exit:
    """A sentence on standard error, and the exit code for what was refused or found."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(message, style="red")
    return typer.Exit(1)


def show_json(value: Json | Sequence[Any] | Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """A table that wraps nothing it need not; columns of `numbers` are flush right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        side: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, overflow="fold", no_wrap=number == 0, justify=side)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def show_diff(before: str, after: str, before_name: str, after_name: str) -> bool:
    """A unified diff; False if there is no difference."""
    lines = list(unified_diff(before.splitlines(), after.splitlines(), before_name, after_name, lineterm=""))
    for line in lines:
        say(line, _COLOURS.get(line[:1]))
    return bool(lines)
