"""Networks of open_clip behind a real server, against open_clip itself on the same frames."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import model.torchvision_schemas  # noqa: F401  (before torchvision)
from export.build import BundleOptions, make_bundle
from export.bundle import open_bundle
from export.parity import cosine
from export.reference import verification_prompts
from export.runtime import open_runtime
from model.checkpoint import read_network
from model.inputs import InputSpec
from model.inputs.video.decode import decode_uncropped
from model.network.frame_pooling import Pooling
from model.progress import Steps
from tests.open_clip_folders import open_clip_folder
from tests.service.conftest import RunningServer, running

LABELS = verification_prompts()
# Resized to a short side of 32, the long one leaves an odd number of pixels to be cut.
WIDTH, HEIGHT = 74, 54
LONG = pytest.mark.long


@dataclass
class Served:
    """A server, and the network that it serves in open_clip's own hands."""

    server: RunningServer
    towers: Any
    preprocess: Any
    tokenize: Any
    pooling: Pooling
    ends: bool
    bundle: Path


@pytest.fixture(
    scope="module",
    params=[
        "clip mean",
        "siglip mean",
        "coca tokens",
        pytest.param("coca mean", marks=LONG),
        pytest.param("pe-core mean", marks=LONG),
        pytest.param("mobileclip2 mean", marks=LONG),
    ],
)
def served(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Served]:
    import open_clip  # by now torchvision loads

    kind, pooling = request.param.split()
    place = tmp_path_factory.mktemp("networks")
    source = f"local-dir:{open_clip_folder(kind, place / kind)}"
    make_bundle(read_network(source, pooling=pooling), place / "bundle", BundleOptions(), Steps())
    towers, _, preprocess = open_clip.create_model_and_transforms(source)
    with running(bundle=place / "bundle") as server:
        yield Served(
            server,
            towers.eval(),
            preprocess,
            open_clip.get_tokenizer(source),
            pooling,
            kind == "pe-core",
            place / "bundle",
        )


def moving_clip(frames: int, seed: int) -> bytes:
    """A ground of noise over which a square moves, as an MP4 file."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 256, (HEIGHT // 6, WIDTH // 6 + 1, 3), np.uint8)
    ground = ground.repeat(6, 0).repeat(6, 1)[:HEIGHT, :WIDTH]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(frames):
            picture = ground.copy()
            picture[10:30, 2 * i : 2 * i + 20] = rng.integers(0, 256, 3, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file.getvalue()


def every_frame(clip: bytes, count: int) -> list[Image.Image]:
    """All pictures of the clip, as they were decoded."""
    with io.BytesIO(clip) as file:
        whole = InputSpec(
            num_frames=count,
            image_size=8,
            resize_short_side=HEIGHT,
            resize_rule="bilinear-antialias",
        )
        frames = decode_uncropped(file, whole, sampling="test").frames[0]
    return [Image.fromarray(frame) for frame in frames]


def pooled(served: Served, images: torch.Tensor) -> torch.Tensor:
    """The vector of a clip whose prepared frames these are, by open_clip's own towers."""
    visual = served.towers.visual
    if served.pooling == "mean":
        return served.towers.encode_image(images, normalize=False).mean(0)
    tokens = visual.transformer(visual._embeds(images)).flatten(0, 1)[None]
    return visual.ln_post(visual.attn_pool(tokens))[0, 0] @ visual.proj


@torch.no_grad()
def expected(served: Served, clip: bytes, count: int, labels: list[str]) -> np.ndarray:
    """Logits (K,) of open_clip, with its own pictures, tokens, scale and bias."""
    pictures = every_frame(clip, count)
    steps = np.arange(8)
    picks = steps * (count - 1) // 7 if served.ends else (2 * steps + 1) * count // 16
    images = torch.stack([served.preprocess(pictures[i]) for i in picks])
    towers = served.towers
    ids = served.tokenize([f"a video of {label}." for label in labels])
    text = towers.encode_text(ids, normalize=True)
    cosines = text @ torch.nn.functional.normalize(pooled(served, images), dim=0)
    bias = 0 if towers.logit_bias is None else towers.logit_bias
    return (towers.logit_scale.exp() * cosines + bias).numpy()


@pytest.mark.parametrize("count", [1, 10, 400])
def test_answers_are_those_of_open_clip(served: Served, count: int) -> None:
    frames = 21
    clip = moving_clip(frames, seed=count)
    response = served.server.classify(clip, labels=LABELS[:count])
    assert response.status_code == 200, response.text
    predictions = response.json()["predictions"]
    answer = {p["label"]: p["logit"] for p in predictions}
    logits = np.array([answer[label] for label in LABELS[:count]])
    theirs = expected(served, clip, frames, LABELS[:count])
    np.testing.assert_allclose(logits, theirs, atol=1e-2)
    ranked = theirs[np.argsort(-logits, kind="stable")]
    assert (np.diff(ranked) < 1e-3).all(), "another order than open_clip's"
    assert count == 1 or np.ptp(theirs) > 0.5, "labels that are all alike would show nothing"
    scale = served.towers.logit_scale.exp().item()
    bias = 0 if served.towers.logit_bias is None else served.towers.logit_bias.item()
    similarities = np.array([p["similarity"] for p in predictions])
    np.testing.assert_allclose(
        similarities * scale + bias, [p["logit"] for p in predictions], atol=1e-3
    )


@pytest.mark.parametrize("clips", [1, 3])
def test_encoders_are_open_clips_own_on_equal_pixels(served: Served, clips: int) -> None:
    bundle = open_bundle(served.bundle)
    spec = bundle.manifest.inputs
    shape = (clips, spec.num_frames, spec.image_size, spec.image_size, 3)
    frames = np.random.default_rng(clips).integers(0, 256, shape, np.uint8)
    pixels = (torch.from_numpy(frames) - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    ids = served.tokenize([f"a video of {label}." for label in LABELS[: 10 * clips]])
    runtime = open_runtime(bundle, "onnxruntime-cpu")
    video, text = runtime.encode_video(frames)["video"], runtime.encode_text(ids.numpy())
    runtime.close()
    with torch.no_grad():
        theirs = torch.stack([pooled(served, clip) for clip in pixels.permute(0, 1, 4, 2, 3)])
        texts = served.towers.encode_text(ids, normalize=True)
    assert len(video) == clips
    assert cosine(video, theirs.numpy()) > 1 - 1e-5
    assert cosine(text, texts.numpy()) > 1 - 1e-5


def test_a_sigmoid_is_the_networks_own_where_it_was_trained_with_one(served: Served) -> None:
    clip = moving_clip(9, seed=3)
    response = served.server.classify(clip, labels=LABELS[:10], scores="sigmoid")
    if served.towers.logit_bias is None:
        assert response.json()["code"] == "not_calibrated"
        return
    assert response.status_code == 200, response.text
    scores = {p["label"]: p["score"] for p in response.json()["predictions"]}
    logits = torch.from_numpy(expected(served, clip, 9, LABELS[:10]))
    own = torch.sigmoid(logits).numpy()
    found = np.array([scores[label] for label in LABELS[:10]])
    # Of a sigmoid this small the share is as far off as the logit.
    np.testing.assert_allclose(found, own, rtol=1e-2)
    assert list(scores) == [LABELS[i] for i in np.argsort(-found, kind="stable")]
