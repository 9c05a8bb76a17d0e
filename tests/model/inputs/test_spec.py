"""The input spec: what the published models want, and what a processor file says."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from model.inputs import InputSpec
from model.inputs.spec import IMAGENET_MEAN, IMAGENET_STD

HUB = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 224},
}


@pytest.mark.parametrize(("image_size", "short_side"), [(224, 256), (336, 384), (112, 128)])
def test_official_resizes_to_256_of_224(image_size: int, short_side: int) -> None:
    spec = InputSpec.official(8, image_size)
    assert spec.resize_short_side == short_side
    assert spec.resize_rule == "bilinear"
    assert (spec.mean, spec.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_hub_file_is_brought_to_the_0_255_scale() -> None:
    spec = InputSpec.from_huggingface(HUB, 8, 224)
    assert spec.resize_rule == "bilinear-antialias"
    assert spec.resize_short_side == 224
    assert spec.mean == pytest.approx(IMAGENET_MEAN)
    assert spec.std == pytest.approx(IMAGENET_STD)


def test_336_model_is_cropped_at_336_whatever_its_file_says() -> None:
    file = {k: v for k, v in HUB.items() if k != "crop_size"} | {"size": 336}
    spec = InputSpec.from_huggingface(file, 16, 336)
    assert (spec.image_size, spec.resize_short_side) == (336, 336)


def test_short_side_is_never_below_the_crop() -> None:
    assert InputSpec.from_huggingface(HUB, 16, 336).resize_short_side == 336


def test_missing_statistics_are_imagenets_not_the_class_default() -> None:
    spec = InputSpec.from_huggingface({"size": 224}, 8, 224)
    assert spec.mean == pytest.approx(IMAGENET_MEAN)
    assert spec.std == pytest.approx(IMAGENET_STD)


def test_steps_that_are_off_are_left_out() -> None:
    spec = InputSpec.from_huggingface(HUB | {"do_normalize": False}, 8, 224)
    assert spec.mean == (0, 0, 0)
    assert spec.std == pytest.approx((255, 255, 255))
    raw = InputSpec.from_huggingface(HUB | {"do_rescale": False}, 8, 224)
    assert raw.mean == pytest.approx((0.485, 0.456, 0.406))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"resample": 0}, "resample=0"), ({"size": "big"}, "size 'big'")],
)
def test_what_cannot_be_honoured_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputSpec.from_huggingface(HUB | change, 8, 224)


def test_crop_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ValidationError, match="crop would not fit"):
        InputSpec(num_frames=8, image_size=224, resize_short_side=200)


def test_unknown_and_impossible_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        InputSpec.model_validate(InputSpec.official(8).model_dump() | {"colour": "red"})
    with pytest.raises(ValidationError, match="std must be positive"):
        InputSpec(num_frames=8, image_size=8, resize_short_side=8, std=(0, 1, 1))


def test_survives_json() -> None:
    spec = InputSpec.official(32, 336)
    assert InputSpec.model_validate_json(spec.model_dump_json()) == spec
