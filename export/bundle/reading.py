"""Opening a bundle: version and hashes are checked before anything in it is used."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from export.bundle.errors import BundleError
from export.bundle.hashing import sha256_bytes, sha256_file
from export.bundle.labels import LabelSet, read_label_set
from export.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    BundleManifest,
    GraphName,
    PrecisionBuild,
)
from model.inputs import Tokenizer

HASHED_AT_ONCE = 4
WEIGHTS = (".onnx.data", ".bin")
AGAIN = "copy the bundle again or make it anew with `python -m export`"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `hash` is the SHA-256 of `bundle.json`, which holds all other hashes."""

    path: Path
    manifest: BundleManifest
    hash: str

    def file(self, name: str) -> Path:
        """Where a file of the manifest lies."""
        return self.path / name

    def graph_file(self, graph: GraphName, build: PrecisionBuild) -> Path:
        """The file of a graph in a precision."""
        return self.file(build.graphs.get(graph, self.manifest.graphs[graph].file))

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the text encoder was trained with; read once."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(self.file(self.manifest.tokenizer))

    def label_set(self, name: str) -> LabelSet:
        """A stored label list; `KeyError` where there is none of this name."""
        return read_label_set(self.path, self.manifest.labels[name])

    def check_files(
        self, precision: str | None = None, part: Literal["all", "form", "weights"] = "all"
    ) -> None:
        """Hash every file, or what a precision reads; `BundleError` names the first bad one.

        `weights` are files of numbers alone, which nothing is done with but arithmetic; all others
        are `form`.
        """
        manifest = self.manifest
        files = manifest.files if precision is None else manifest.files_for(precision)
        if part != "all":
            weights = part == "weights"
            files = {f: h for f, h in files.items() if f.endswith(WEIGHTS) == weights}
        with ThreadPoolExecutor(HASHED_AT_ONCE) as threads:  # hashing lets go of the interpreter
            for _ in threads.map(_check_file, map(self.file, files), files.values()):
                pass

    @cached_property
    def text_hash(self) -> str:
        """Changes exactly when label vectors could: text encoder (its weights too), tokenizer."""
        encoder = self.manifest.graphs["text_encoder"].file
        files = self.manifest.files
        own = [name for name in sorted(files) if name == encoder or name.startswith(encoder + ".")]
        parts = [files[name] for name in own]
        return sha256_bytes("\n".join([*parts, files[self.manifest.tokenizer]]).encode())


def open_bundle(path: str | Path, *, check_files: bool = True) -> Bundle:
    """Open a bundle folder; `BundleError` names the file that is missing, changed or too new.

    `check_files=False` skips the hashes of the files, for a process whose parent has checked them
    or that does so itself before it uses any.
    """
    folder = Path(path)
    raw = _read_manifest(folder)
    manifest = _parse(raw, folder / MANIFEST_FILE)
    bundle = Bundle(folder, manifest, sha256_bytes(raw))
    if check_files:
        bundle.check_files()
    return bundle


def _read_manifest(folder: Path) -> bytes:
    file = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder; name a bundle made with `python -m export`")
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder} holds no {MANIFEST_FILE}, so it is no bundle; "
            f"make one with `python -m export CHECKPOINT --output {folder}`"
        ) from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error


def _parse(raw: bytes, file: Path) -> BundleManifest:
    try:
        fields = json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{file} is no JSON ({error}); {AGAIN}") from error
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{file} has format version {version!r}, this program reads {FORMAT_VERSION}; "
            "export the checkpoint again with this version of xclip-serve"
        )
    try:
        return BundleManifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{file}: {where}: {first['msg']}; {AGAIN}") from error


def _check_file(file: Path, expected: str) -> None:
    try:
        actual = sha256_file(file)
    except FileNotFoundError as error:
        raise BundleError(f"{file} is missing; {AGAIN}") from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if actual != expected:
        raise BundleError(
            f"{file} is not the file that was exported (SHA-256 {actual[:12]}…, "
            f"the manifest says {expected[:12]}…); {AGAIN}"
        )
