"""What training does to pixels, held to the figures of the published pipeline."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from model.data.config import AugmentConfig
from model.data.frames.augment import Augment, Crop, draw_crop
from model.inputs import InputSpec

# isort: split
from torchvision.transforms import v2

SPEC = InputSpec.official(num_frames=4)
PLAIN = AugmentConfig(scales=(1.0,), positions="centre", flip=0, jitter=0, grey=0)
DRAWS = 4000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(height: int = 256, width: int = 340, frames: int = 4) -> np.ndarray:
    return rng(7).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def near(count: int, share: float, draws: int = DRAWS) -> bool:
    """Within four standard deviations: wrong once in 16,000 tries, and the seed is fixed."""
    return abs(count - share * draws) < 4 * (draws * share * (1 - share)) ** 0.5


def published_crop(height: int, width: int, side: int, shape: int, place: int) -> Crop:
    """The rule as the facts state it, written out on its own."""
    base = min(height, width)
    sides = [int(base * scale) for scale in (1, 0.875, 0.75, 0.66)]
    shapes = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) < 2]
    h, w = (side if abs(n - side) <= 2 else n for n in shapes[shape])
    x, y = (width - w) // 4, (height - h) // 4
    left, top = [(0, 0), (4 * x, 0), (0, 4 * y), (4 * x, 4 * y), (2 * x, 2 * y)][place]
    return Crop(top, left, h, w)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(256, 340, 224), (455, 256, 224), (384, 512, 336)]
)
def test_the_ten_shapes_at_five_places_are_equally_frequent(
    height: int, width: int, side: int
) -> None:
    config, draw = AugmentConfig(), rng()
    found = Counter(draw_crop(height, width, side, config, draw) for _ in range(DRAWS))
    expected = Counter(
        published_crop(height, width, side, shape, place)
        for shape in range(10)
        for place in range(5)
    )
    assert found.keys() == expected.keys()
    for crop, ways in expected.items():
        assert near(found[crop], ways / 50), crop


def test_a_side_within_two_pixels_becomes_the_wanted_one() -> None:
    config = AugmentConfig(scales=(1.0,))
    sides = {draw_crop(n, n + 60, 224, config, rng()).height for n in (222, 223, 225, 226)}
    assert sides == {224}
    assert draw_crop(227, 300, 224, config, rng()).height == 227


def test_without_options_it_is_crop_and_resize_as_opencv_does_it() -> None:
    frames = noise()
    out = Augment(PLAIN, SPEC)(frames, rng())
    cut = frames[:, :, 42:298]
    for got, frame in zip(out, cut, strict=True):
        expected = cv2.resize(
            np.ascontiguousarray(frame), (224, 224), interpolation=cv2.INTER_LINEAR
        )
        assert np.abs(got.astype(int) - expected).max() <= 1


def test_crop_and_mirroring_are_shared_by_the_frames() -> None:
    still = np.repeat(noise(frames=1), 4, axis=0)
    augment = Augment(AugmentConfig(jitter=0), SPEC)
    for seed in range(8):
        out = augment(still, rng(seed))
        assert (out == out[0]).all()


def test_frequencies_of_mirroring_jitter_and_grey() -> None:
    spec = InputSpec(num_frames=1, image_size=16, resize_short_side=16)
    picture = rng(3).integers(60, 180, (1, 16, 16, 3), dtype=np.uint8)
    options = {"scales": (1.0,), "positions": "centre"}
    augment = Augment(AugmentConfig(**options), spec)
    flip_only = Augment(AugmentConfig(**options, jitter=0, grey=0), spec)
    flipped = grey = changed = 0
    for seed in range(1000):
        flipped += bool((flip_only(picture, rng(seed)) == picture[:, :, ::-1]).all())
        out = augment(picture, rng(seed))
        is_grey = bool((out == out[..., :1]).all())
        grey += is_grey
        changed += not is_grey and not any((out == p).all() for p in (picture, picture[:, :, ::-1]))
    assert near(flipped, 0.5, 1000)
    assert near(grey, 0.2, 1000)
    assert near(changed, 0.8 * 0.8, 1000)


@pytest.mark.parametrize("by", ["clip", "frame"])
def test_colours_change_once_for_the_clip_or_for_every_frame(by: str) -> None:
    still = np.repeat(noise(64, 80, 1), 4, axis=0)
    config = AugmentConfig(
        scales=(1.0,), positions="centre", flip=0, jitter=1, grey=0, jitter_by=by
    )
    spec = InputSpec.official(4, 48)
    out = Augment(config, spec)(still, rng(1))
    assert (out == out[0]).all() == (by == "clip")


def test_jitter_is_torchvisions_on_pillow_pictures() -> None:
    """One factor at a time, at the strength of the published recipe: the drawn factor lies in the
    published range, and the outcome is what torchvision makes of it.
    """
    frames = noise(48, 48, 1)
    for name, strength in {
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.2,
        "hue": 0.1,
    }.items():
        off = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
        config = AugmentConfig(**{**off, name: strength}, scales=(1.0,), flip=0, jitter=1, grey=0)
        spec = InputSpec(num_frames=1, image_size=48, resize_short_side=48)
        out = Augment(config, spec)(frames, rng(5))[0]
        adjust = getattr(v2.functional, f"adjust_{name}")
        low, high = (-strength, strength) if name == "hue" else (1 - strength, 1 + strength)
        picture = Image.fromarray(frames[0])
        errors = [
            np.abs(np.asarray(adjust(picture, factor)).astype(int) - out).mean()
            for factor in np.linspace(low, high, 201)
        ]
        assert min(errors) < 1.0, name
        assert max(errors) > 3 * min(errors) + 1, name


def test_grey_is_torchvisions() -> None:
    frames = noise(48, 48)
    spec = InputSpec(num_frames=4, image_size=48, resize_short_side=48)
    out = Augment(PLAIN.model_copy(update={"grey": 1.0}), spec)(frames, rng())
    expected = [np.asarray(v2.Grayscale(3)(Image.fromarray(frame))) for frame in frames]
    assert (out == np.stack(expected)).all()


def test_the_same_draw_gives_the_same_pixels_and_leaves_torch_alone() -> None:
    augment, frames = Augment(AugmentConfig(jitter=1), SPEC), noise()
    before = torch.random.get_rng_state()
    one, two = augment(frames, rng(4)), augment(frames, rng(4))
    assert (one == two).all()
    assert (one != augment(frames, rng(5))).any()
    assert torch.equal(before, torch.random.get_rng_state())


def test_one_option_leaves_the_draws_of_the_others_alone() -> None:
    frames = noise()
    with_flip = Augment(PLAIN.model_copy(update={"flip": 1.0}), SPEC)(frames, rng(2))
    without = Augment(PLAIN, SPEC)(frames, rng(2))
    assert (with_flip == without[:, :, ::-1]).all()
