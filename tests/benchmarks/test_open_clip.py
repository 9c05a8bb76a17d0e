"""Networks of open_clip beside our bundles of them: the same work, and who has done it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import encoder, start
from benchmarks.lib import bundles, open_clip_networks
from benchmarks.lib.open_clip_pipeline import Pipeline
from tests.open_clip_folders import KINDS

NAME = "tiny CLIP"
PEAKS = {"fp32": 1e12, "bf16": 2e12}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small network of open_clip, known by a name of its own."""
    import open_clip

    folder = tmp_path_factory.mktemp("open_clip")
    config, _ = KINDS["clip"]
    (folder / "tiny-clip-of-a-test.json").write_text(json.dumps({"embed_dim": 64, **config}))
    open_clip.add_model_config(folder / "tiny-clip-of-a-test.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip_networks.NETWORKS, NAME, ("tiny-clip-of-a-test", "none"))
        patch.setattr(bundles, "FOLDER", folder)
        patch.setattr(open_clip_networks, "PRECISIONS", ("fp32",))
        yield NAME


def test_both_encode_the_same_and_are_compared_with_each_other(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    rows, missing = encoder._open_clip(network, 1, PEAKS)
    assert missing == {}
    names = [row["what"] for row in rows]
    theirs = [f"{NAME}, open_clip {m} {p}" for m in ("eager", "compiled") for p in PEAKS]
    assert names[:4] == theirs
    assert f"{NAME}, onnxruntime-cpu fp32" in names[4:]
    assert rows[0]["of_eager"] == 1
    assert all(row["cosine"] > 0.99999 for row in rows[4:])
    assert all(row["of_peak"] > 0 for row in rows)
    made = open_clip_networks.open_clip_bundle(network)
    assert (made.path / "bundle.json").stat().st_mtime_ns == (
        open_clip_networks.open_clip_bundle(network).path / "bundle.json"
    ).stat().st_mtime_ns, "it is made once"


def test_open_clip_answers_as_its_own_code_does(network: str, clip: bytes, tmp_path: Path) -> None:
    folder = open_clip_networks.folder_of(network)
    shares = Pipeline(folder)(clip, ["swim", "ride a bike"])
    assert sum(shares.values()) == pytest.approx(1)
    (tmp_path / "clip.mp4").write_bytes(clip)
    with start.FirstAnswer(folder, tmp_path / "clip.mp4", "open_clip") as peer:
        assert peer.memory_mib()["pss"] > 0


def test_the_operations_of_a_tower_are_counted() -> None:
    tower = torch.nn.Linear(3 * 4 * 4, 5)
    flat = torch.nn.Sequential(torch.nn.Flatten(), tower)
    assert open_clip_networks.flops_of(flat, torch.zeros(2, 3, 4, 4)) == 2 * 2 * 48 * 5
