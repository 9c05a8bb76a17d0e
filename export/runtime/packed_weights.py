"""Weights in the order in which this processor multiplies them, kept in files.

ONNX Runtime packs the weights of matrix products when it loads a graph: a copy in the process's own
memory. Loaded from here instead they are mapped from the file, at once, and processes that serve
the same bundle on one machine share them. How they are packed depends on the library's version and
on the processor, so both are part of an entry's name, as are the weights themselves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model.files import sync

KEPT = 12  # entries, one a graph: a few bundles, while one replaces another
DRAFT = "draft-"  # begins the names of what is being made or removed
LEFT_S = 3600  # after which nobody is at a draft any more: who made it was killed
CPU_INFO = Path("/proc/cpuinfo")
DESCRIBES_CPU = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackedWeights:
    """A folder of packed graphs, those used last; `hashes` of the bundle's files by their names.

    Whoever can write to the folder decides what is computed: it belongs to the server alone.
    """

    folder: Path
    hashes: Mapping[str, str]
    version: str

    def packed(self, file: Path, pack: Callable[[Path], object]) -> Path | None:
        """Return the packed form of a graph file, made by `pack(path)` if it is not there yet.

        None where it cannot be made, which is logged: the graph is then used as it is.
        """
        entry = self.folder / self._key(file)
        try:
            if not entry.is_dir():
                self._make(entry, file.name, pack)
            os.utime(entry)
        except Exception as error:  # of the library too: its exceptions share no base class
            logger.warning("weights of %s are not kept packed: %s", file.name, error)
            return None
        return entry / file.name

    def forget(self, file: Path) -> None:
        """Remove an entry that cannot be used."""
        with suppress(OSError):
            shutil.rmtree(self.folder / self._key(file))

    def _key(self, file: Path) -> str:
        own = sorted(
            digest
            for name, digest in self.hashes.items()
            if name == file.name or name.startswith(file.name + ".")
        )
        return hashlib.sha256(json.dumps([own, self.version, processor()]).encode()).hexdigest()

    def _make(self, entry: Path, name: str, pack: Callable[[Path], object]) -> None:
        """Pack into a temporary folder and rename it: what has an entry's name is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
        try:
            pack(draft / name)
            for written in draft.iterdir():
                sync(written)
            try:
                draft.rename(entry)
            except OSError:
                # Another process may have been first; its entry is as good.
                if not entry.is_dir():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Remove all but the entries used last; processes that have one mapped keep it."""
        used: dict[Path, float] = {}
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process drops them as well
                at = path.stat().st_mtime
                if not path.name.startswith(DRAFT):
                    used[path] = at
                elif time.time() - at > LEFT_S:
                    shutil.rmtree(path)
        for old in sorted(used, key=used.__getitem__, reverse=True)[KEPT:]:
            # Out of sight first: a folder whose files are being removed looks lately used.
            going = old.with_name(f"{DRAFT}{old.name}")
            with suppress(OSError):
                old.rename(going)
                shutil.rmtree(going)


def processor() -> list[str]:
    """Return what tells processors apart whose packed weights may differ."""
    try:
        lines = CPU_INFO.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return [platform.machine(), platform.processor()]
    known = (line.partition(":") for line in lines)
    return [f"{key.strip()}:{value.strip()}" for key, _, value in known
            if key.strip() in DESCRIBES_CPU]  # fmt: skip
