"""Open a bundle: version, places and hashes are checked before anything in it is used."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from export.bundle.errors import BundleError
from export.bundle.labels import LabelSet, read_label_set
from export.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    BundleManifest,
    GraphName,
    PrecisionBuild,
)
from export.bundle.places import check_places
from model.files import read_bounded, sha256_of
from model.inputs import Tokenizer, TokenizerSpec

HASHED_AT_ONCE = 4
MANIFEST_BYTES = 16 << 20  # of `bundle.json` at most; a real one has some kilobytes
WEIGHTS = (".onnx.data", ".bin")
AGAIN = "copy the bundle again or make it anew with `python -m export`"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `hash` is the SHA-256 of `bundle.json`, which holds all other hashes."""

    path: Path
    manifest: BundleManifest
    hash: str

    def file(self, name: str) -> Path:
        """Return the path of a file of the manifest."""
        return self.path / name

    def graph_file(self, graph: GraphName, build: PrecisionBuild) -> Path:
        """Return the file of a graph in a precision."""
        return self.file(build.graphs.get(graph, self.manifest.graphs[graph].file))

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer that the text encoder was trained with; it is read once."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        file = self.file(self.manifest.tokenizer)
        return Tokenizer.from_file(file, self.manifest.inputs.tokenizer)

    def label_set(self, name: str) -> LabelSet:
        """Return a stored label list; it is read once.

        Args:
            name: One of `manifest.labels`.

        Returns:
            K labels, their prompts, and vectors float32 (K,D).

        Raises:
            KeyError: There is no list of this name.
            BundleError: Its files hold no such list for this network.
        """
        if name not in self._label_sets:
            info = self.manifest.labels[name]
            self._label_sets[name] = read_label_set(self.path, info, self.manifest.text_dim)
        return self._label_sets[name]

    @cached_property
    def _label_sets(self) -> dict[str, LabelSet]:
        return {}

    def check_files(
        self, precision: str | None = None, part: Literal["all", "form", "weights"] = "all"
    ) -> None:
        """Check where the files lie, and hash them.

        Args:
            precision: Check what this precision reads; None checks every file.
            part: `weights` hashes files of numbers alone, which are used for nothing but
                arithmetic; `form` hashes the others; `all` hashes both and reads the label lists.

        Raises:
            BundleError: Names the first file that is missing, changed, not a regular file, outside
                of the folder, or read by a graph and not listed.
        """
        manifest = self.manifest
        files = manifest.files if precision is None else manifest.files_for(precision)
        check_places(self.path, files, manifest.files)
        if part != "all":
            weights = part == "weights"
            files = {f: h for f, h in files.items() if f.endswith(WEIGHTS) == weights}
        with ThreadPoolExecutor(HASHED_AT_ONCE) as threads:  # hashing lets go of the interpreter
            for _ in threads.map(_check_file, map(self.file, files), files.values()):
                pass
        if part == "all":
            for name in manifest.labels:
                self.label_set(name)

    @cached_property
    def text_hash(self) -> str:
        """Hash of all that label vectors depend on: text encoder with its weights, tokenizer."""
        rules = self.manifest.inputs.tokenizer
        encoder = self.manifest.graphs["text_encoder"].file
        files = self.manifest.files
        own = [name for name in sorted(files) if name == encoder or name.startswith(encoder + ".")]
        parts = [files[name] for name in own]
        if rules != TokenizerSpec():  # bundles before there was a choice keep their hash
            parts.append(rules.model_dump_json())
        return hashlib.sha256(
            "\n".join([*parts, files[self.manifest.tokenizer]]).encode()
        ).hexdigest()


def open_bundle(path: str | Path, *, check_files: bool = True) -> Bundle:
    """Open a bundle folder.

    Args:
        path: The folder that holds `bundle.json`.
        check_files: Check and hash every file; False for a process whose parent has done so, or
            that calls `Bundle.check_files` itself before it uses any.

    Returns:
        The bundle; nothing of it is loaded yet.

    Raises:
        BundleError: One line that names the file that is missing, changed, malformed or too new.
    """
    folder = Path(path)
    raw = _read_manifest(folder)
    manifest = _parse(raw, folder / MANIFEST_FILE)
    bundle = Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())
    if check_files:
        bundle.check_files()
    return bundle


def _read_manifest(folder: Path) -> bytes:
    file = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder; name a bundle made with `python -m export`")
    try:
        return read_bounded(file, MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder} holds no {MANIFEST_FILE}, so it is no bundle; "
            f"make one with `python -m export CHECKPOINT --output {folder}`"
        ) from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}; {AGAIN}") from error


def _parse(raw: bytes, file: Path) -> BundleManifest:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
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
        actual = sha256_of(file)
    except FileNotFoundError as error:
        raise BundleError(f"{file} is missing; {AGAIN}") from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if actual != expected:
        raise BundleError(
            f"{file} is not the file that was exported (SHA-256 {actual[:12]}…, "
            f"the manifest says {expected[:12]}…); {AGAIN}"
        )
