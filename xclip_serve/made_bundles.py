"""Bundles that were made of other models, kept so that each is made once."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.bundle import BundleError, open_bundle
from export.bundle.manifest import FORMAT_VERSION
from model.files import cache_folder

MANIFEST = "bundle.json"


class ExportFailed(Exception):
    """An export that has ended with an error, which it has told.

    Attributes:
        status: The exit status of the export.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the export ended with {status}")
        self.status = status


def bundle_of(model: str, cache: Path | None = None) -> Path:
    """Return the folder of a bundle: `model` itself, or what was made of it, now or before.

    Args:
        model: A bundle, or anything `xclip-serve export` takes.
        cache: Folder where bundles are kept; None for this user's.

    Raises:
        ExportFailed: No bundle can be made of it.
        ValueError: It would have to be made, and what exporting needs is not installed.
        OSError: The cache folder cannot be written to.
    """
    if (Path(model) / MANIFEST).is_file():
        return Path(model)
    bundle = (cache or cache_folder()) / "bundles" / _key(model)
    bundle.parent.mkdir(parents=True, exist_ok=True)
    with _alone(bundle.with_name(f"{bundle.name}.lock")):  # two starts make it once
        if bundle.exists() and not _whole(bundle):
            print(f"{bundle} is damaged; it is made again", file=sys.stderr)
            shutil.rmtree(bundle)
        if not bundle.exists():
            _export(model, bundle)
    return bundle


def _key(model: str) -> str:
    """Return a name that is another one once the files of the model or the format change."""
    path = Path(model)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    state = [
        (str(file.resolve()), status.st_size, status.st_mtime_ns)
        for file in files
        if file.exists() and (status := file.stat())
    ]
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, model, state]).encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", path.name if state else model).strip("-.")
    return f"{readable[:60]}-{digest[:16]}"


def _whole(bundle: Path) -> bool:
    try:
        open_bundle(bundle)
    except BundleError:
        return False
    return True


def _export(model: str, bundle: Path) -> None:
    """Make the bundle in a process of its own: what it loads, the server does not keep."""
    if importlib.util.find_spec("torch") is None:
        raise ValueError(
            f"{model} is no bundle (it has no {MANIFEST}), and making one of it needs "
            "pip install 'xclip-serve[export]'"
        )
    print(f"Making a bundle of {model}, once, in {bundle}", file=sys.stderr)
    command = [sys.executable, "-m", "xclip_serve", "export", model, "--output", str(bundle)]
    if status := subprocess.run(command).returncode:
        raise ExportFailed(status)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
