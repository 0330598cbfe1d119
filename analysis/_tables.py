"""Giving out an Arrow table: for reading, as CSV, as JSON, as Parquet. Imports neither torch nor Ray."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import math
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alss_ray.config import UsageError
from alss_ray.files import StoreError
from alss_ray.places import Place


def values(table: pa.Table) -> list[list[Any]]:
    """Each column's values as Python's own; raises UsageError for a type that Python lacks."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns.append(column.to_pylist())
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise UsageError(f"Column {name} cannot be printed ({error}); cast it to varchar.") from error
    return columns


def plain(value: Any) -> Any:
    """A value as JSON and CSV can hold it: NaN and infinities become null, times ISO 8601, blobs hexadecimal."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def print_as(table: pa.Table, format: str, rows: int) -> None:
    """Print as 'table', of which at most `rows` are shown (0 for all), 'csv' or 'json'."""
    if format == "table":
        print_table(table, rows)
    else:
        {"csv": print_csv, "json": print_json}[format](table)


def write(table: pa.Table, place: Place, format: str) -> None:
    """Put a file there at once and whole; raises UsageError where that cannot be."""
    try:
        if format == "parquet":
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd")
            place.write(sink.getvalue())
        else:
            with contextlib.redirect_stdout(io.StringIO()) as text:
                print_as(table, format, 0)
            place.write(text.getvalue().encode())
    except StoreError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{place} cannot be written to ({error.strerror}); choose another --out.") from error
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"The answer cannot be written as Parquet ({reason}).") from error


def print_json(table: pa.Table) -> None:
    if len(set(table.column_names)) < len(table.column_names):
        raise UsageError("Two columns of the answer have the same name; rename one with AS.")
    rows = zip(*values(table), strict=True)
    made = [json.dumps(dict(zip(table.column_names, map(plain, row), strict=True))) for row in rows]
    print("[" + ",\n ".join(made) + "]")


def print_csv(table: pa.Table) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in zip(*values(table), strict=True):
        plains = map(plain, row)
        writer.writerow([json.dumps(v) if isinstance(v, bool | dict | list) else v for v in plains])


def print_table(table: pa.Table, most: int) -> None:
    """Print at most `most` rows (0 for all) as wide as they are, and how many rows were left out."""
    shown = table if most == 0 else table.slice(0, most)
    grid = Table(box=SIMPLE, pad_edge=False, show_edge=False)
    cells = []
    for name, column in zip(table.column_names, values(shown), strict=True):
        numeric = any(isinstance(value, int | float | Decimal) for value in column)
        grid.add_column(Text(name), justify="right" if numeric else "left", no_wrap=True, overflow="crop")
        cells.append([Text(text) for text in column_texts(column)])
    for row in zip(*cells, strict=True):
        grid.add_row(*row)
    # As wide as the table needs, whatever the terminal: nothing is cut off or folded.
    console = Console(width=100_000, highlight=False)
    Console(width=console.measure(grid).maximum, highlight=False).print(grid)
    left = len(table) - len(shown)
    rest = f"; {left} more were left out (--rows 0 shows all)" if left else ""
    print(f"{len(shown)} row{'s' if len(shown) != 1 else ''}{rest}")


def column_texts(column: Sequence[Any]) -> list[str]:
    """A column's values for reading: floats with one number of decimals that shows at least 5 digits of the largest."""
    real = [abs(v) for v in column if isinstance(v, float) and math.isfinite(v) and v]
    decimals = min(6, max(1, 4 - math.floor(math.log10(max(real))))) if real else 1
    fixed = not real or (min(real) >= 10**-decimals and max(real) < 1e12)
    texts = [f"{v:.{decimals}f}" if fixed else f"{v:.4g}" for v in column if isinstance(v, float)]
    while fixed and decimals > 1 and all(text.endswith(("0", "nan", "inf")) for text in texts):
        decimals -= 1
        texts = [text if text.endswith(("nan", "inf")) else text[:-1] for text in texts]
    floats = iter(texts)
    return [next(floats) if isinstance(v, float) else _text(v) for v in column]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        value = value.replace(microsecond=0)
    made = plain(value)
    text = made if isinstance(made, str) else json.dumps(made, ensure_ascii=False)
    return "".join(c if c.isprintable() else " " for c in text)
