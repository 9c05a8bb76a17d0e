"""Writing a bundle: everything goes into a temporary folder that is renamed when it is complete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.bundle.errors import BundleError
from export.bundle.manifest import MANIFEST_FILE, BundleManifest
from model.files import sha256_of, sync


@contextmanager
def new_bundle_folder(output: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder to fill; it becomes `output` when the block ends well, else it vanishes."""
    check_output(output, overwrite=overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        for path in folder.rglob("*"):
            # Some libraries write for their own user alone; the server is often another one.
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        if output.exists():
            output.rename(Path(scratch) / "old")
        folder.rename(output)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a folder that may not be replaced."""
    if output.exists() and not overwrite:
        raise BundleError(f"{output} is there already; choose another name or add --overwrite")
    if output.exists() and not (output / MANIFEST_FILE).is_file():
        raise BundleError(f"{output} is no bundle, so it is not overwritten; choose another name")


def hash_files(folder: Path) -> dict[str, str]:
    """Hash every file below the folder but the manifest (SHA-256), by POSIX path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in files
        if path != folder / MANIFEST_FILE
    }


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write `bundle.json`; the same manifest always gives the same bytes."""
    text = manifest.model_dump_json(indent=1) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def replace_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Put a manifest in place of that of a bundle: a reader finds the old one or the new one."""
    file = folder / MANIFEST_FILE
    with tempfile.TemporaryDirectory(prefix=f".{MANIFEST_FILE}.", dir=folder) as scratch:
        write_manifest(Path(scratch), manifest)
        new = Path(scratch) / MANIFEST_FILE
        new.chmod(file.stat().st_mode)
        sync(new)
        os.replace(new, file)
    sync(folder)
