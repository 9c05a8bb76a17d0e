"""What the rows of a table answer, kept beside it: others do not join them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xclip_serve.folders import Folder

IN_PARTS = "_question.json"  # readers of a folder of Parquet pass over what begins so


class TableQuestion:
    """The question of a table, in a file of its folder.

    Args:
        folder: Where the table is.
        file: Name of the file: `TABLE.question.json`, or `_question.json` among parts.
        asked: The question, as JSON.
        begun: Whether the table has rows. Without, what was asked before does not matter.

    Raises:
        ValueError: The rows that are there answer another question.
        OSError: The file cannot be read or written.
    """

    def __init__(self, folder: Folder, file: str, asked: Mapping[str, Any], *, begun: bool) -> None:
        self._folder, self._file = folder, file
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
        table = self._file.removesuffix(".question.json") if self._file != IN_PARTS else ""
        where = f"{self._folder.name}/{table}".rstrip("/")
        return f"{what} of the rows in {where} was another one: name another --output"

    def _read(self) -> dict[str, Any]:
        try:
            read = json.loads(self._folder.read(self._file))
        except FileNotFoundError:
            return {}
        except ValueError:
            where = f"{self._folder.name}/{self._file}"
            raise ValueError(f"{where} is damaged; remove it to go on all the same") from None
        return read if isinstance(read, dict) else {}

    def _write(self, known: dict[str, Any]) -> None:
        if known == self._known:
            return
        self._known = known
        text = json.dumps(known, ensure_ascii=False, indent=1) + "\n"
        self._folder.write(self._file, text.encode())
