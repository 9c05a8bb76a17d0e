"""What a network expects of its input; stored with every checkpoint and bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ResizeRule = Literal["bilinear", "bilinear-antialias", "bicubic-antialias"]
CropRule = Literal["center", "center-rounded", "squash"]
FrameSpacing = Literal["middle", "ends"]
PadRule = Literal["longest", "fixed"]
CleanRule = Literal["lower", "whitespace", "canonicalize"]
PixelAspect = Literal["displayed", "stored"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Statistics = tuple[Finite, Finite, Finite]
# Far above any network there is, and what a decode worker can hold.
Frames = Annotated[int, Field(gt=0, le=1024)]
Pixels = Annotated[int, Field(gt=0, le=4096)]
Tokens = Annotated[int, Field(gt=0, le=4096)]

# ImageNet, not CLIP: what every published X-CLIP was trained with. RGB, 0-255 scale.
IMAGENET_MEAN: Statistics = (123.675, 116.28, 103.53)
IMAGENET_STD: Statistics = (58.395, 57.12, 57.375)
PIL_BILINEAR, PIL_BICUBIC = 2, 3
PIL_RULES: Mapping[int, ResizeRule] = {
    PIL_BILINEAR: "bilinear-antialias",
    PIL_BICUBIC: "bicubic-antialias",
}


class TokenizerSpec(BaseModel):
    """How label text becomes token ids.

    `kind` is CLIP's byte pairs, or whatever the file beside the network describes. `pad` is how
    far texts are filled up: to the longest of a batch, where what stands behind the end changes
    nothing, or always to the context length. `clean` is what is done before, by the names of
    open_clip: `lower` as CLIP, `whitespace` leaves the case, `canonicalize` drops punctuation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["clip-bpe", "tokenizer.json"] = "clip-bpe"
    pad: PadRule = "longest"
    clean: CleanRule = "lower"


class InputSpec(BaseModel):
    """Frames and text as one network wants them.

    `frame_rule` takes the middle of equal parts of the clip, or frames at equal distance with the
    first and the last among them. `resize_rule` is the published rule of the official code
    (`bilinear`: cv2 INTER_LINEAR, no antialiasing, uint8) or Pillow's, whose filter grows with the
    reduction (`bilinear-antialias`, `bicubic-antialias`). `crop` cuts the centre after the short
    side was resized, an odd pixel left over going below and right (`center`) or to the even side
    (`center-rounded`, as torchvision does), or resizes both sides to the square (`squash`).
    `pixel_aspect` says whether non-square pixels are stretched to what a player shows (the width
    changes), or taken as stored, which is what the published evaluations did. `mean` and `std` are
    RGB on the 0-255 scale.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_frames: Frames
    image_size: Pixels
    resize_short_side: Pixels
    frame_rule: FrameSpacing = "middle"
    resize_rule: ResizeRule = "bilinear"
    crop: CropRule = "center"
    pixel_aspect: PixelAspect = "displayed"
    mean: Statistics = IMAGENET_MEAN
    std: Statistics = IMAGENET_STD
    context_length: Tokens = 77
    pad_id: Annotated[int, Field(ge=0)] = 0
    tokenizer: TokenizerSpec = TokenizerSpec()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.resize_short_side < self.image_size:
            raise ValueError(
                f"resize_short_side {self.resize_short_side} is smaller than image_size "
                f"{self.image_size}: the crop would not fit"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")
        return self

    @classmethod
    def official(cls, num_frames: int, image_size: int = 224) -> Self:
        """Return the official X-CLIP test transform: short side 256/224 of the crop."""
        return cls(
            num_frames=num_frames,
            image_size=image_size,
            resize_short_side=int(256 / 224 * image_size),
        )

    @classmethod
    def from_huggingface(
        cls, preprocessor: Mapping[str, Any], num_frames: int, image_size: int
    ) -> Self:
        """Return the spec of a `preprocessor_config.json`.

        `image_size` is the network's own and wins over the file's crop size, which is missing or
        wrong in published files of the 336 model. Statistics missing in the file are ImageNet's:
        the processor class's own default of 0.5 belongs to no published X-CLIP.
        """
        resample = preprocessor.get("resample", PIL_BILINEAR)
        if resample not in PIL_RULES:
            raise ValueError(
                f"preprocessor resample={resample} is not supported; use {PIL_BILINEAR} (bilinear) "
                f"or {PIL_BICUBIC} (bicubic)"
            )
        scale = preprocessor.get("rescale_factor", 1 / 255) if _on(preprocessor, "rescale") else 1.0
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if _on(preprocessor, "normalize"):
            mean = preprocessor.get("image_mean") or tuple(m / 255 for m in IMAGENET_MEAN)
            std = preprocessor.get("image_std") or tuple(s / 255 for s in IMAGENET_STD)
        return cls(
            num_frames=num_frames,
            image_size=image_size,
            resize_short_side=max(_shortest_edge(preprocessor, image_size), image_size),
            resize_rule=PIL_RULES[resample],
            mean=_scaled(mean, scale),
            std=_scaled(std, scale),
        )


def _on(preprocessor: Mapping[str, Any], step: str) -> bool:
    return bool(preprocessor.get(f"do_{step}", True))


def _scaled(values: Any, scale: float) -> Statistics:
    """Bring statistics of the rescaled picture to the 0-255 scale."""
    red, green, blue = (round(float(v) / scale, 6) for v in values)
    return red, green, blue


def _shortest_edge(preprocessor: Mapping[str, Any], default: int) -> int:
    size = preprocessor.get("size", default)
    if isinstance(size, Mapping):
        size = size.get("shortest_edge", size.get("height"))
    if not isinstance(size, int) or size <= 0:
        raise ValueError(
            f"preprocessor size {preprocessor['size']!r:.80} is not supported; "
            'use {"shortest_edge": pixels}'
        )
    return size
