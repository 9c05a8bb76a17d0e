"""A bundle appears whole or not at all, and nothing that is no bundle is ever replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.bundle import BundleError
from export.bundle.manifest import MANIFEST_FILE
from export.bundle.writing import hash_files, new_bundle_folder


def old_bundle(folder: Path) -> Path:
    folder.mkdir()
    (folder / MANIFEST_FILE).write_text("old")
    return folder


def test_nothing_is_seen_before_the_block_ends(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "bundle"
    with new_bundle_folder(output) as folder:
        (folder / "a").write_text("x")
        assert not output.exists()
    assert (output / "a").read_text() == "x"
    assert list(output.parent.iterdir()) == [output]


def test_a_failure_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    output = old_bundle(tmp_path / "bundle")
    interrupted = pytest.raises(KeyboardInterrupt)
    with interrupted, new_bundle_folder(output, overwrite=True) as folder:
        (folder / MANIFEST_FILE).write_text("new")
        raise KeyboardInterrupt
    assert (output / MANIFEST_FILE).read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_an_existing_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    output = old_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="--overwrite"), new_bundle_folder(output):
        pass
    with new_bundle_folder(output, overwrite=True) as folder:
        (folder / MANIFEST_FILE).write_text("new")
    assert (output / MANIFEST_FILE).read_text() == "new"
    assert list(tmp_path.iterdir()) == [output]


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with (
        pytest.raises(BundleError, match="is no bundle"),
        new_bundle_folder(precious, overwrite=True),
    ):
        pass
    assert (precious / "thesis.txt").exists()


def test_every_file_may_be_read_by_another_user(tmp_path: Path) -> None:
    with new_bundle_folder(tmp_path / "bundle") as folder:
        (folder / "labels").mkdir(mode=0o700)
        (folder / "labels" / "a").touch(mode=0o600)
    assert (tmp_path / "bundle" / "labels").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bundle" / "labels" / "a").stat().st_mode & 0o777 == 0o644


def test_every_file_but_the_manifest_is_hashed(tmp_path: Path) -> None:
    old_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "labels").mkdir()
    (tmp_path / "bundle" / "labels" / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_files(tmp_path / "bundle") == {"labels/a": digest}
