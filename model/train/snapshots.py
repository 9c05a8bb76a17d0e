"""Snapshots of a run: whole or not there, checked when read, the last good one found by itself.

A snapshot is a native checkpoint (so `python -m export` takes any of them) with `training.pt`
beside it: the optimiser, the scaler, the configuration and the place in the run, from which with
the seed all random numbers follow. `snapshot.json` holds the SHA-256 of every file and is what
makes the folder count.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from model.checkpoints.native import read_native
from model.command_line import one_line
from model.files import sha256_of, sync
from model.train.errors import TrainError

SEAL, STATE = "snapshot.json", "training.pt"
# What torch.save says when the system takes only a part; the system's own error is lost in it.
TORN = "unexpected pos"
PREFIX, DRAFT = "update-", ".draft-"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@dataclass(frozen=True)
class Snapshot:
    """One that was read: the folder, its weights as our modules name them, the training state."""

    folder: Path
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]


class Snapshots:
    """The snapshots of one run, in its folder."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def read(self, update: int) -> Snapshot:
        """Read the snapshot of an update; TrainError where it is damaged or gone."""
        folder = self._place(update)
        try:
            return _read(folder)
        except _Damaged as damage:
            raise TrainError(
                f"the best network, snapshot {folder}, is damaged ({damage}): delete "
                f"{self.folder} to start over, or export {self.folders()[0]}"
            ) from None

    def folders(self) -> list[Path]:
        """List all that are there, the newest first."""
        names = self.folder.glob(f"{PREFIX}*")
        return sorted((path for path in names if path.is_dir()), key=_update_of, reverse=True)

    def newest(self) -> tuple[Snapshot | None, list[str]]:
        """Read the newest good one, with a warning for each damaged one that was passed over.

        TrainError where there are some and all are damaged.
        """
        warnings: list[str] = []
        for folder in self.folders():
            try:
                return _read(folder), warnings
            except _Damaged as damage:
                warnings.append(f"snapshot {folder} is damaged ({damage}): going on from before it")
        if warnings:
            raise TrainError(
                f"every snapshot in {self.folder} is damaged, the newest: {warnings[0]}; "
                "delete the folder to start over"
            )
        return None, warnings

    @contextmanager
    def writing(self, update: int, best: int | None = None) -> Iterator[Path]:
        """Yield a draft folder to make and fill, which becomes the snapshot of that update.

        `best` is the update whose network is the best by now: its snapshot is kept for as long as
        a snapshot that says so.

        TrainError where the disk is full or will not take it; what was there stays as it was.
        """
        self._sweep()
        draft = self.folder / f"{DRAFT}{update:09d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield draft
            _seal(draft, best)
            self._put(draft, self._place(update))
        except (OSError, SafetensorError, RuntimeError) as error:
            if not isinstance(error, OSError) and not _is_full(error):
                raise
            what = f"the snapshot of update {update} cannot be written to {self.folder}"
            raise TrainError(self._refusal(what, error)) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in self._superfluous():
            shutil.rmtree(old, ignore_errors=True)

    @contextmanager
    def going_on_when_full(self, what: str) -> Iterator[None]:
        """Guard whatever else a run writes: where the disk is full, TrainError says from where the
        same command goes on.
        """
        try:
            yield
        except (OSError, SafetensorError, RuntimeError) as error:
            if not _is_full(error):
                raise
            raise TrainError(self._refusal(f"{what} cannot be written", error)) from None

    def _superfluous(self) -> list[Path]:
        """List all but the newest, and those that one of these names as the best."""
        folders = self.folders()
        best = {_best_of(folder) for folder in folders[: self.keep]}
        return [folder for folder in folders[self.keep :] if _update_of(folder) not in best]

    def _place(self, update: int) -> Path:
        return self.folder / f"{PREFIX}{update:09d}"

    def _put(self, draft: Path, target: Path) -> None:
        if target.exists():  # a damaged one of the same update
            shutil.rmtree(target)
        draft.rename(target)
        sync(self.folder)

    def _sweep(self) -> None:
        """Delete the drafts of runs that were killed."""
        for draft in self.folder.glob(f"{DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)

    def _refusal(self, what: str, error: Exception) -> str:
        kept = self.folders()
        left = f"the last good one is {kept[0]}" if kept else "there is no snapshot yet"
        reason = getattr(error, "strerror", None) or one_line(error)
        if TORN in reason:
            reason = "No space left: only a part of it was taken"
        return f"{what} ({reason}); {left}: free some space and give the same command again"


def write_state(draft: Path, state: dict[str, Any]) -> None:
    """Write the training state into a draft."""
    with (draft / STATE).open("wb") as stream:
        torch.save(state, stream)


class _Damaged(Exception):
    """Why a snapshot cannot be used."""


def _read(folder: Path) -> Snapshot:
    try:
        seals: dict[str, str] = json.loads((folder / SEAL).read_text())["files"]
        for name, seal in seals.items():
            if sha256_of(folder / name) != seal:
                raise _Damaged(f"{name} is not what was written")
        weights = read_native(folder).net.state_dict()
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except _Damaged:
        raise
    except Exception as error:  # whatever a reader makes of a damaged file
        raise _Damaged(one_line(error) or type(error).__name__) from error
    return Snapshot(folder, weights, state)


def _seal(draft: Path, best: int | None) -> None:
    files = sorted(path for path in draft.iterdir() if path.name != SEAL)
    seals = {path.name: sha256_of(path) for path in files}
    content = {"format": 1, "files": seals, **({} if best is None else {"best": best})}
    (draft / SEAL).write_text(json.dumps(content, indent=1) + "\n")
    for path in (*files, draft / SEAL, draft):
        sync(path)


def _best_of(folder: Path) -> int | None:
    """Return the update that a snapshot names as the best so far, if it does."""
    try:
        best: int | None = json.loads((folder / SEAL).read_text()).get("best")
    except (OSError, ValueError):
        return None
    return best


def _update_of(folder: Path) -> int:
    number = folder.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else -1


def _is_full(error: Exception) -> bool:
    """Tell whether the disk took no more. Libraries wrap the system's error in their own."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    text = str(error).lower()
    return any(mark in text for mark in ("no space", "file too large", "disk quota", TORN))
