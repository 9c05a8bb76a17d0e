"""What the rows of a table answer, kept beside it: others do not join them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TableQuestion:
    """The question of a table, in `TABLE.question.json`.

    Args:
        table: The table.
        asked: The question, as JSON.
        begun: Whether the table has rows. Without, what was asked before does not matter.

    Raises:
        ValueError: The rows that are there answer another question.
        OSError: The file cannot be read or written.
    """

    def __init__(self, table: Path, asked: Mapping[str, Any], *, begun: bool) -> None:
        self._table, self._file = table, table.with_name(f"{table.name}.question.json")
        self._known: dict[str, Any] = self._read() if begun else {}
        # Tables of an earlier version have none: they are taken for what is asked now.
        if differing := [n for n in asked if n in self._known and self._known[n] != asked[n]]:
            raise ValueError(self._other(f"the question ({', '.join(differing)})"))
        self._write({**self._known, **asked})

    def check_bundle(self, bundle: str) -> None:
        """Take note of which network answers. ValueError where the rows are another's."""
        known = self._known.get("bundle")
        if known is None:
            self._write({**self._known, "bundle": bundle})
        elif known != bundle:
            raise ValueError(self._other(f"the network ({known[:19]}…, not {bundle[:19]}…)"))

    def _other(self, what: str) -> str:
        return f"{what} of the rows in {self._table} was another one: name another --output"

    def _read(self) -> dict[str, Any]:
        try:
            read = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise ValueError(f"{self._file} is damaged; remove it to go on all the same") from None
        return read if isinstance(read, dict) else {}

    def _write(self, known: dict[str, Any]) -> None:
        if known == self._known:
            return
        self._known = known
        unfinished = self._file.with_name(f"{self._file.name}.unfinished")
        unfinished.write_text(json.dumps(known, ensure_ascii=False, indent=1) + "\n", "utf-8")
        os.replace(unfinished, self._file)
