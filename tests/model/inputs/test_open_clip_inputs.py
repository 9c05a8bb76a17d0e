"""Pixels and tokens of open_clip's networks, to the bit and the id, against open_clip itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image

import model.torchvision_schemas  # noqa: F401  (before torchvision)
from model.checkpoint import read_network
from model.inputs import InputSpec, LabelTooLong, Tokenizer, crop_frame, sample_indices
from model.inputs.text.lengths import encode_by_length, token_lengths
from tests.model.inputs.test_tokenizer import HOSTILE
from tests.open_clip_folders import open_clip_folder

SIDES = st.integers(1, 200)
UNICODE = [text for text in HOSTILE if "\ud800" not in text]


@settings(max_examples=150, deadline=None)
@given(
    SIDES,
    SIDES,
    st.integers(8, 96),
    st.sampled_from(["bilinear", "bicubic"]),
    st.sampled_from(["shortest", "squash"]),
)
def test_pixels_equal_open_clip(h: int, w: int, side: int, interpolation: str, mode: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
    theirs = image_transform(side, False, interpolation=interpolation, resize_mode=mode)
    picture = Image.fromarray(image)
    for step in theirs.transforms[:-2]:  # all but the way to a normalised tensor
        picture = step(picture)
    spec = InputSpec(
        num_frames=1,
        image_size=side,
        resize_short_side=side,
        resize_rule=f"{interpolation}-antialias",
        crop="squash" if mode == "squash" else "center-rounded",
    )
    assert np.array_equal(crop_frame(image, spec)[0], np.asarray(picture))


def test_a_squashed_picture_has_one_crop_wherever_it_is_cut() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    spec = InputSpec(num_frames=1, image_size=16, resize_short_side=16, crop="squash")
    crops = crop_frame(image, spec, crops=3, displayed=(30, 100))
    assert crops.shape == (3, 16, 16, 3)
    assert (crops == crop_frame(image, spec)).all()


@given(st.integers(1, 100_000), st.integers(2, 64))
def test_frames_with_both_ends_are_the_published_ones(frames: int, size: int) -> None:
    published = [int(i * (frames - 1) / (size - 1)) for i in range(size)]
    assert sample_indices(frames, size, spacing="ends").tolist() == [published]


def test_views_share_frames_from_end_to_end() -> None:
    views = sample_indices(12, 3, spacing="ends", views=2)
    assert views.tolist() == [[0, 4, 8], [2, 6, 11]]
    assert sample_indices(9, 1, spacing="ends").tolist() == [[0]]


@pytest.fixture(scope="module", params=["siglip", "coca"])
def tokenizers(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Tokenizer, Any, int]:
    """Ours, open_clip's own, and the context length of a network."""
    folder = tmp_path_factory.mktemp("network") / request.param
    source = f"local-dir:{open_clip_folder(request.param, folder)}"
    loaded = read_network(source)
    assert loaded.tokenizer
    spec = loaded.net.inputs
    loaded.tokenizer.save(folder / "again.json")
    again = Tokenizer.from_file(folder / "again.json", spec.tokenizer)
    assert again.hash == loaded.tokenizer.hash
    return again, open_clip.get_tokenizer(source), spec.context_length


def test_ids_equal_open_clip_and_are_padded_as_the_network_wants(
    tokenizers: tuple[Tokenizer, Any, int],
) -> None:
    ours, theirs, length = tokenizers
    phrases = Path(__file__).with_name("phrases.txt").read_text(encoding="utf-8").split("\n")
    texts = [f"A photo_of {phrase}, isn't it?" for phrase in phrases]
    assert np.array_equal(ours.encode(texts, length), theirs(texts).numpy())
    assert ours.encode(texts[:1], length).shape == (1, length)


@pytest.mark.parametrize("text", UNICODE, ids=lambda t: ascii(t[:20]))
def test_hostile_text_equals_open_clip(text: str, tokenizers: tuple[Tokenizer, Any, int]) -> None:
    ours, theirs, _ = tokenizers
    expected = theirs([text], context_length=20_000).numpy()
    assert np.array_equal(ours.encode([text], 20_000), expected)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_equals_open_clip(tokenizers: tuple[Tokenizer, Any, int], text: str) -> None:
    ours, theirs, _ = tokenizers
    assert np.array_equal(ours.encode([text], 500), theirs([text], context_length=500).numpy())


def test_a_text_too_long_is_refused_and_never_cut(tokenizers: tuple[Tokenizer, Any, int]) -> None:
    ours, _, length = tokenizers
    with pytest.raises(LabelTooLong, match=rf"'zq zq.*limit is {length}"):
        ours.encode(["zq " * length], length)


def test_texts_of_fixed_length_are_run_whole(tokenizers: tuple[Tokenizer, Any, int]) -> None:
    ours, _, length = tokenizers
    ids = ours.encode(["a", "a dog on a sofa"], length)
    widths = []

    def encode(part: np.ndarray) -> np.ndarray:
        widths.append(part.shape[1])
        return part[:, :1].astype(np.float32)

    encode_by_length(encode, ids, "fixed")
    assert widths == [length]
    assert token_lengths(ids, "fixed").tolist() == [length] * 2
