"""Architecture of an X-CLIP: widths and depths, and every published variant by name."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

HEAD_WIDTH = 64  # every attention of every published model: heads = width / 64

SIZES = {768: "B", 1024: "L"}  # of a vision tower, by its width

Activation = Literal["quick_gelu", "gelu"]
DropPathAxis = Literal["clip", "position"]
# Far above any network there is: a description that asks for more is a mistake, or means harm.
Pixels = Annotated[int, Field(gt=0, le=4096)]
Frames = Annotated[int, Field(gt=0, le=1024)]
Width = Annotated[int, Field(gt=0, le=16384)]
Depth = Annotated[int, Field(gt=0, le=256)]
DepthOrNone = Annotated[int, Field(ge=0, le=256)]
Tokens = Annotated[int, Field(gt=0, le=4096)]
Vocabulary = Annotated[int, Field(gt=0, le=10_000_000)]


class ModelConfig(BaseModel):
    """Everything that decides the shapes and the arithmetic of an X-CLIP.

    Zero `mit_layers` means the mean of the frame features, zero `prompt_layers` no video-specific
    prompts, and `cross_frame_messages=False` frames that do not see each other; with all three the
    network is frame-averaged CLIP. `drop_path` grows linearly to its value at the last vision
    block; published networks use 0. `mit_heads` and `prompt_heads` stand for width / 64 unless a
    parity test asks for the head count of another implementation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Pixels = 224
    patch_size: Pixels = 32
    num_frames: Frames = 8
    vision_width: Width = 768
    vision_layers: Depth = 12
    embed_dim: Width = 512
    text_width: Width = 512
    text_layers: Depth = 12
    vocab_size: Vocabulary = 49408
    context_length: Tokens = 77
    mit_layers: DepthOrNone = 1
    prompt_layers: DepthOrNone = 2
    prompt_alpha: Annotated[float, Field(allow_inf_nan=False)] = 0.1
    cross_frame_messages: bool = True
    activation: Activation = "quick_gelu"
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path_by: DropPathAxis = "clip"
    mit_heads: Width | None = None
    prompt_heads: Width | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        for name in ("vision_width", "embed_dim", "text_width"):
            if getattr(self, name) % HEAD_WIDTH:
                raise ValueError(f"{name} must be a multiple of {HEAD_WIDTH} (one head)")
        for name in ("mit_heads", "prompt_heads"):
            if self.embed_dim % (getattr(self, name) or 1):
                raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of {name}")
        return self

    @property
    def variant(self) -> str:
        """The paper's name for a network of this size: `B/16, 224 pixels, 8 frames`."""
        size = SIZES.get(self.vision_width, f"width {self.vision_width}")
        return f"{size}/{self.patch_size}, {self.image_size} pixels, {self.num_frames} frames"

    @property
    def num_patches(self) -> int:
        """Patches of one frame (P)."""
        return (self.image_size // self.patch_size) ** 2


def heads(width: int, override: int | None = None) -> int:
    """Count the attention heads of a layer of that width."""
    return override or width // HEAD_WIDTH


def _base(patch_size: int, num_frames: int) -> ModelConfig:
    return ModelConfig(patch_size=patch_size, num_frames=num_frames)


def _large(image_size: int, num_frames: int) -> ModelConfig:
    return ModelConfig(
        image_size=image_size,
        patch_size=14,
        num_frames=num_frames,
        vision_width=1024,
        vision_layers=24,
        embed_dim=768,
        text_width=768,
    )


def _few_shot() -> dict[str, ModelConfig]:
    return {
        f"xclip-base-patch16-{data}-{shots}-shot": _base(16, 32)
        for data in ("hmdb", "ucf")
        for shots in (2, 4, 8, 16)
    }


# Every published checkpoint, under the name it has on the hub (there below `microsoft/`).
VARIANTS: dict[str, ModelConfig] = {
    "xclip-base-patch32": _base(32, 8),
    "xclip-base-patch32-16-frames": _base(32, 16),
    "xclip-base-patch16": _base(16, 8),
    "xclip-base-patch16-16-frames": _base(16, 16),
    "xclip-base-patch16-32-frames": _base(16, 32),
    "xclip-base-patch16-kinetics-600": _base(16, 8),
    "xclip-base-patch16-kinetics-600-16-frames": _base(16, 16),
    "xclip-base-patch16-zero-shot": _base(16, 32),
    **_few_shot(),
    "xclip-large-patch14": _large(224, 8),
    "xclip-large-patch14-kinetics-600": _large(224, 8),
    "xclip-large-patch14-16-frames": _large(336, 16),
    "tiny": ModelConfig(
        image_size=64,
        patch_size=16,
        num_frames=4,
        vision_width=128,
        vision_layers=2,
        embed_dim=64,
        text_width=64,
        text_layers=2,
        vocab_size=1026,
        context_length=32,
    ),
}
