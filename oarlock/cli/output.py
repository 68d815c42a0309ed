"""How verbs print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def show_rows(
    title: str, rows: Sequence[Mapping[str, Any]], as_json: bool, columns: Sequence[str] = ()
) -> None:
    """Print rows as a table, or as a JSON list."""
    if as_json:
        print(json.dumps(list(rows), default=str))
        return
    Console().print(make_table(title, rows, columns))


def make_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Table:
    """A rich table; columns default to the keys of the first row."""
    columns = columns or list(rows[0] if rows else ())
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in columns:
        numeric = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in columns))
    return table


def show_document(document: Mapping[str, Any], as_json: bool) -> None:
    """Print a flat mapping as two columns, or as JSON."""
    if as_json:
        print(json.dumps(document, default=str))
        return
    table = Table(show_header=False)
    for key, value in document.items():
        table.add_row(str(key), _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
