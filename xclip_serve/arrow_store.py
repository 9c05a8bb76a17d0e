"""pyarrow's object stores, with fsspec's names for what they do; loaded with the first address."""

from __future__ import annotations

from typing import Any

from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import FileSelector, FileType


class ArrowStore(ArrowFSWrapper):
    """A store of objects, which has no folders: only names with slashes in them.

    fsspec walks from folder to folder, and pyarrow shows none of Google's that has no object of its
    own: what lies deeper would be missing. So all that begins with a name is listed at once.
    """

    def ls(self, path: str, detail: bool = False, **_: Any) -> list[Any]:
        """List the objects right below a folder; none where there is no such folder."""
        entries = self._below(path, recursive=False)
        return entries if detail else [entry["name"] for entry in entries]

    def find(
        self, path: str, maxdepth: int | None = None, detail: bool = False, **_: Any
    ) -> dict[str, Any] | list[str]:
        """List the objects below a folder, at most so many slashes below."""
        top = len(path.rstrip("/")) + 1
        found = {
            entry["name"]: entry
            for entry in self._below(path, recursive=maxdepth != 1)
            if maxdepth is None or entry["name"].count("/", top) < maxdepth
        }
        return found if detail else list(found)

    def _below(self, path: str, *, recursive: bool) -> list[dict[str, Any]]:
        selector = FileSelector(path.rstrip("/"), allow_not_found=True, recursive=recursive)
        infos = self.fs.get_file_info(selector)
        return [self._make_entry(info) for info in infos if info.type is FileType.File]
