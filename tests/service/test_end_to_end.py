"""A bundle behind a real server, against transformers fed with the same frames."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import model.torchvision_schemas  # noqa: F401  (before transformers)
from benchmarks.lib.layouts import to_huggingface
from export.build import BundleOptions, make_bundle
from model.checkpoint import Checkpoint
from model.inputs import Tokenizer, decode_clip
from model.network.config import VARIANTS
from model.network.initialise import build_xclip
from model.network.xclip import XClip
from model.progress import Steps
from tests.model.conftest import randomise
from tests.service.conftest import RunningServer, running

QUESTIONS = [
    ["playing sports", "eating spaghetti", "go shopping"],
    ["arm wrestling", "flipping a pancake", "applying eye make-up", "a dog"],
    ["juggling balls", "an empty street at night while it rains"],
]


BASE = VARIANTS["xclip-base-patch32"]
SHALLOW = BASE.model_copy(
    update={"vision_width": 128, "vision_layers": 2, "text_width": 64, "text_layers": 2}
)


@pytest.fixture(
    scope="module",
    params=[SHALLOW, pytest.param(BASE, marks=pytest.mark.long)],
    ids=["shallow", "real size"],
)
def net(request: pytest.FixtureRequest) -> XClip:
    built = build_xclip(request.param, seed=0).eval()
    randomise(built)
    return built


@pytest.fixture(scope="module")
def server(
    net: XClip, videos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("bundle") / "b32"
    options = BundleOptions(clips=tuple(videos.values()))
    make_bundle(Checkpoint(net, "b32", "random"), folder, options, Steps())
    with running(bundle=folder) as started:
        yield started


@pytest.fixture(scope="module")
def port(net: XClip) -> Any:
    from transformers import XCLIPConfig, XCLIPModel

    state, config = to_huggingface(net)
    made = XCLIPModel(XCLIPConfig.from_dict(config)).eval()
    made.load_state_dict(state, strict=False)
    return made


def expected(port: Any, net: XClip, path: Path, labels: list[str]) -> np.ndarray:
    """Probabilities of transformers' model for our frames of the clip."""
    spec = net.inputs
    with path.open("rb") as file:
        frames = decode_clip(file, spec).frames.astype(np.float32)
    pixels = torch.from_numpy((frames - spec.mean) / spec.std).float().permute(0, 1, 4, 2, 3)
    ids = torch.from_numpy(Tokenizer.clip().encode(labels))
    padded = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]))
    with torch.inference_mode():
        logits = port(input_ids=padded, pixel_values=pixels).logits_per_video
    return logits.softmax(dim=1)[0].numpy()


@pytest.mark.timeout(900)  # makes and verifies a bundle first
def test_eight_requests_in_flight_get_transformers_answers(
    server: RunningServer, port: Any, net: XClip, videos: dict[str, Path]
) -> None:
    asked = [(path, labels) for path in videos.values() for labels in QUESTIONS][:8]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda q: server.classify(q[0].read_bytes(), labels=q[1]), asked)
        )
    spread = 0.0
    for (path, labels), response in zip(asked, answers, strict=True):
        assert response.status_code == 200, response.text
        scores = {p["label"]: p["score"] for p in response.json()["predictions"]}
        got = np.array([scores[label] for label in labels])
        np.testing.assert_allclose(got, expected(port, net, path, labels), atol=1e-3)
        spread = max(spread, float(np.ptp(got)))
    assert spread > 0.05, "answers that are all alike would show nothing"
