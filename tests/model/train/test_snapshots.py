"""Snapshots: whole or not there, and the last good one is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from model.checkpoints.native import is_native, read_native, save_checkpoint
from model.network.config import ModelConfig
from model.network.initialise import build_xclip
from model.train.errors import TrainError
from model.train.snapshots import SEAL, STATE, Snapshots, write_state

NET = ModelConfig(
    image_size=16, patch_size=16, num_frames=2, vision_width=64, vision_layers=1, embed_dim=64,
    text_width=64, text_layers=1, vocab_size=64, context_length=8,
)  # fmt: skip


def put(snapshots: Snapshots, update: int) -> Path:
    with snapshots.writing(update) as draft:
        save_checkpoint(build_xclip(NET, seed=update), draft)
        write_state(draft, {"updates": update, "moments": torch.full((3,), float(update))})
    return snapshots.folders()[0]


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def test_the_newest_is_read_back_whole(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=3)
    put(snapshots, 5)
    folder = put(snapshots, 10)
    snapshot, warnings = snapshots.newest()
    assert snapshot is not None
    assert warnings == []
    assert snapshot.state["updates"] == 10
    assert snapshot.state["moments"].tolist() == [10, 10, 10]
    expected = build_xclip(NET, seed=10).state_dict()
    assert all(torch.equal(snapshot.weights[name], tensor) for name, tensor in expected.items())
    assert is_native(folder)
    assert read_native(folder).net.config == NET


def test_without_any_a_run_starts_at_the_beginning(tmp_path: Path) -> None:
    assert Snapshots(tmp_path / "none", keep=2).newest() == (None, [])


def test_so_many_are_kept(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    for update in (1, 2, 3, 10):
        put(snapshots, update)
    assert [path.name for path in snapshots.folders()] == ["update-000000010", "update-000000003"]


@pytest.mark.parametrize("file", [SEAL, STATE, "model.safetensors", "config.json"])
@pytest.mark.parametrize("how", ["changed", "gone", "empty"])
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path: Path, file: str, how: str) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    put(snapshots, 1)
    target = put(snapshots, 2) / file
    if how == "changed":
        damage(target)
    elif how == "gone":
        target.unlink()
    else:
        target.write_bytes(b"")
    snapshot, warnings = snapshots.newest()
    assert snapshot is not None
    assert snapshot.state["updates"] == 1
    assert "update-000000002 is damaged" in warnings[0]


def test_when_all_are_damaged_the_run_says_so_and_does_not_start_over(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    for update in (1, 2):
        damage(put(snapshots, update) / "model.safetensors")
    with pytest.raises(TrainError, match=r"every snapshot in .* is damaged"):
        snapshots.newest()


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    put(snapshots, 1)

    def half() -> None:
        with snapshots.writing(2) as draft:
            save_checkpoint(build_xclip(NET, seed=2), draft)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert [path.name for path in tmp_path.iterdir()] == ["update-000000001"]


def test_the_draft_of_a_killed_run_does_not_count_and_goes_away(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    whole = put(snapshots, 1)
    shutil.copytree(whole, tmp_path / ".draft-000000002")
    snapshot, _ = snapshots.newest()
    assert snapshot is not None
    assert snapshot.folder == whole
    put(snapshots, 3)
    assert not list(tmp_path.glob(".draft-*"))


def test_a_damaged_one_of_the_same_update_is_replaced(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    put(snapshots, 1)
    damage(put(snapshots, 2) / STATE)
    put(snapshots, 2)
    snapshot, warnings = snapshots.newest()
    assert snapshot is not None
    assert (snapshot.state["updates"], warnings) == (2, [])
