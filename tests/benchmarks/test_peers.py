"""The peers answer what our network answers, as far as they should."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from benchmarks.lib import transformers as _transformers
from benchmarks.lib.clip import another_file
from benchmarks.lib.load import under_load
from benchmarks.lib.server_process import ServerDied, ServerProcess, ask, peer_server
from benchmarks.lib.torch_modes import torch_modes
from benchmarks.lib.transformers import Pipeline, frames_of
from export.bundle import Bundle
from export.runtime import open_runtime

LABELS = ["swim", "ride a bike", "kick ball"]


def test_transformers_gives_our_answer_for_its_pixels(
    folder: Path, bundle: Bundle, clip: bytes
) -> None:
    spec = bundle.manifest.inputs
    pipeline = Pipeline(folder)
    frames, _ = frames_of(clip, spec.num_frames)
    pixels = pipeline.processor(images=frames, return_tensors="pt")["pixel_values"][0].numpy()
    mean, std = (np.array(values)[:, None, None] for values in (spec.mean, spec.std))
    seen = (pixels * std + mean).round().astype(np.uint8).transpose(0, 2, 3, 1)[None]
    runtime = open_runtime(bundle, "onnxruntime-cpu")
    ids = bundle.tokenizer().encode(LABELS, spec.context_length, spec.pad_id)
    features = runtime.encode_video(np.ascontiguousarray(seen))
    logits = runtime.score(features, runtime.encode_text(ids)[None])
    runtime.close()
    expected = torch.from_numpy(logits)[0].softmax(dim=0).tolist()
    theirs = pipeline(clip, LABELS)
    assert [theirs[label] for label in LABELS] == pytest.approx(expected, abs=1e-3)
    assert list(theirs.values()) == sorted(theirs.values(), reverse=True)


def test_without_decord_pyav_reads_the_same_frames(
    clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> None:
        raise ImportError("decord")

    first, _ = frames_of(clip, 4)
    monkeypatch.setattr(_transformers, "_by_decord", absent)
    second, reader = frames_of(clip, 4)
    assert reader == "PyAV"
    assert np.abs(np.stack(first).astype(int) - np.stack(second)).mean() < 3


@pytest.mark.parametrize("kind", ["fastapi", "litserve"])
def test_a_peer_serves_the_same_request_as_we_do(kind: str, folder: Path, clip: bytes) -> None:
    with peer_server(kind, folder, "fp32") as server:
        with httpx.Client(base_url=server.url, timeout=None) as client:
            answer = ask(client, another_file(clip), LABELS)
        found = under_load(server.url, lambda c: ask(c, another_file(clip), LABELS), 2, 0.0)
    assert sum(answer.values()) == pytest.approx(1, abs=1e-5)
    assert (found.answers, found.errors) == (2, 0)


def test_a_server_that_dies_says_why() -> None:
    with (
        pytest.raises(ServerDied, match="nowhere"),
        ServerProcess("benchmarks.nowhere", [], "/health"),
    ):
        pass


def test_a_mode_of_torch_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> object:
        def run() -> None:
            raise RuntimeError("no compiler\nfound")

        return run

    monkeypatch.setattr(torch, "compile", fails)
    a = torch.eye(4)
    running, missing = torch_modes("product", lambda: a @ a)
    assert list(running) == ["product eager fp32", "product eager bf16"]
    assert running["product eager bf16"]().dtype == torch.bfloat16
    assert missing["product compiled fp32"] == "RuntimeError: no compiler"
