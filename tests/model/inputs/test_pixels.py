"""Resize rules bit by bit against OpenCV, Pillow and transformers; crops in the official order."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs import InputSpec, crop_frame, resize_short_side
from model.inputs.pixels.bilinear import resize_bilinear
from model.inputs.pixels.crop import crop_offsets, resized_size

SIDES = st.integers(1, 300)
HUB: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_bilinear_equals_opencv_bit_by_bit(h: int, w: int, height: int, width: int) -> None:
    image = noise(h, w)
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_bilinear(image, (height, width)), expected)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((1080, 1920), (256, 455)),
        ((240, 426), (256, 454)),
        ((512, 682), (256, 341)),  # exactly half: OpenCV takes another way
        ((512, 640), (256, 300)),  # half of one side alone
        ((256, 340), (256, 340)),
        ((131, 175), (256, 342)),
        ((2, 2), (256, 256)),
    ],
)
def test_bilinear_equals_opencv_at_the_sizes_of_videos(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    image = noise(*source)
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_bilinear(image, target), expected)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(10, 200), st.integers(10, 200), st.data())
def test_window_is_cut_from_the_whole(
    h: int, w: int, height: int, width: int, data: st.DataObject
) -> None:
    top = data.draw(st.integers(0, height - 5))
    left = data.draw(st.integers(0, width - 5))
    image = noise(h, w)
    whole = resize_bilinear(image, (height, width))
    part = resize_bilinear(image, (height, width), (top, left, 5, 5))
    assert np.array_equal(part, whole[top : top + 5, left : left + 5])


def test_views_that_are_turned_or_padded_resize_the_same() -> None:
    image = noise(90, 120)
    turned = np.rot90(image)
    assert np.array_equal(
        resize_bilinear(turned, (50, 40)), resize_bilinear(turned.copy(), (50, 40))
    )
    assert np.array_equal(
        resize_bilinear(image[:, 10:70], (30, 20)),
        resize_bilinear(image[:, 10:70].copy(), (30, 20)),
    )


def test_official_test_transform_equals_opencv_and_a_centre_crop() -> None:
    image = noise(240, 426)
    spec = InputSpec.official(8)
    whole = cv2.resize(image, (454, 256), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(crop_frame(image, spec)[0], whole[16:240, 115:339])


def test_three_crops_lie_at_start_end_and_middle_with_the_short_side_at_the_crop() -> None:
    image = noise(240, 426)
    spec = InputSpec.official(8)
    whole = cv2.resize(image, (398, 224), interpolation=cv2.INTER_LINEAR)
    crops = crop_frame(image, spec, crops=3)
    for crop, left in zip(crops, (0, 174, 87), strict=True):
        assert np.array_equal(crop, whole[:, left : left + 224])
    upright = crop_frame(np.ascontiguousarray(image.swapaxes(0, 1)), spec, crops=3)
    whole = cv2.resize(image.swapaxes(0, 1), (224, 398), interpolation=cv2.INTER_LINEAR)
    for crop, top in zip(upright, (0, 174, 87), strict=True):
        assert np.array_equal(crop, whole[top : top + 224])


def test_crop_count_is_one_or_three() -> None:
    with pytest.raises(ValueError, match="1 or 3, not 2"):
        crop_offsets(256, 340, 224, 2)


@pytest.mark.parametrize(
    ("height", "width", "official", "huggingface"),
    [
        (240, 426, (256, 454), (224, 397)),
        (426, 240, (454, 256), (397, 224)),
        (256, 256, (256, 256), (224, 224)),
        (131, 175, (256, 342), (224, 299)),
    ],
)
def test_long_side_is_rounded_as_each_rule_does(
    height: int, width: int, official: tuple[int, int], huggingface: tuple[int, int]
) -> None:
    assert resized_size(height, width, 256, "bilinear") == official
    assert resized_size(height, width, 224, "bilinear-antialias") == huggingface


def test_picture_that_is_stretched_is_resized_once() -> None:
    image = noise(96, 96)
    spec = InputSpec(num_frames=8, image_size=48, resize_short_side=48)
    expected = cv2.resize(image, (64, 48), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_short_side(image, spec, (96, 128)), expected)
    assert np.array_equal(crop_frame(image, spec, 1, (96, 128))[0], expected[:, 8:56])


@pytest.fixture(scope="module")
def processors() -> tuple[Any, Any]:
    """The processor that X-CLIP's files name, on Pillow and on torchvision."""
    from transformers import VideoMAEImageProcessor
    from transformers.models.videomae.image_processing_pil_videomae import (
        VideoMAEImageProcessorPil,
    )

    return VideoMAEImageProcessorPil(**HUB), VideoMAEImageProcessor(**HUB)


@pytest.mark.parametrize("size", [(240, 426), (480, 640), (340, 256), (131, 175), (224, 300)])
def test_huggingface_spec_equals_its_processor(
    size: tuple[int, int], processors: tuple[Any, Any]
) -> None:
    image = cv2.GaussianBlur(noise(*size), (7, 7), 0)
    spec = InputSpec.from_huggingface(HUB, 8, 224)
    ours = crop_frame(np.asarray(image, np.uint8), spec)[0].astype(np.float64)
    on_pillow, on_torchvision = (
        processor([image], return_tensors="np")["pixel_values"][0, 0].transpose(1, 2, 0)
        * np.array(spec.std)
        + np.array(spec.mean)
        for processor in processors
    )
    assert np.abs(ours - on_pillow).max() < 1e-3
    off = np.abs(ours - on_torchvision)
    assert off.max() < 1.001
    assert (off > 0.5).mean() < 0.01
