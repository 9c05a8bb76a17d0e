"""Rows as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows as Markdown; columns without any value are left out."""
    columns = [c for c in rows[0] if any(row.get(c) not in (None, "") for row in rows)]
    lines = ["| " + " | ".join(map(spelled, columns)) + " |"]
    lines.append("|" + "|".join("---" if i == 0 else "--:" for i in range(len(columns))) + "|")
    lines += ["| " + " | ".join(cell(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """Format a value in three figures."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value).replace("|", "\\|")


def spelled(name: str) -> str:
    """Format a key as a title."""
    return name.replace("_", " ")
