"""What goes into the model: clips, frames, pixels, label text. Needs no torch.

The names below are loaded when first asked for: a process that decodes needs no tokenizer, and one
that tokenizes no FFmpeg.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.inputs.clip import Clip, VideoFacts, VideoInfo, VideoWarning
    from model.inputs.errors import (
        NotAVideo,
        RangeError,
        TooLarge,
        TooShort,
        Undecodable,
        UnsupportedFormat,
        VideoError,
    )
    from model.inputs.limits import VideoLimits
    from model.inputs.pixels.crop import crop_frame, resize_short_side
    from model.inputs.sampling import FrameRule, sample_indices
    from model.inputs.spec import InputSpec, TokenizerSpec
    from model.inputs.text.labels import (
        Prompt,
        check_template,
        check_templates,
        clean_label,
        fill_template,
        label_key,
        label_prompts,
    )
    from model.inputs.text.tokenizer import LabelTooLong, Tokenizer
    from model.inputs.video.allocation import limit_libav_allocations
    from model.inputs.video.decode import decode_clip, decode_for_several, decode_uncropped

__all__ = [
    "Clip",
    "FrameRule",
    "InputSpec",
    "LabelTooLong",
    "NotAVideo",
    "Prompt",
    "RangeError",
    "Tokenizer",
    "TokenizerSpec",
    "TooLarge",
    "TooShort",
    "Undecodable",
    "UnsupportedFormat",
    "VideoError",
    "VideoFacts",
    "VideoInfo",
    "VideoLimits",
    "VideoWarning",
    "check_template",
    "check_templates",
    "clean_label",
    "crop_frame",
    "decode_clip",
    "decode_for_several",
    "decode_uncropped",
    "fill_template",
    "label_key",
    "label_prompts",
    "limit_libav_allocations",
    "resize_short_side",
    "sample_indices",
]

_HOMES = {
    "video.allocation": ("limit_libav_allocations",),
    "clip": ("Clip", "VideoFacts", "VideoInfo", "VideoWarning"),
    "video.decode": ("decode_clip", "decode_for_several", "decode_uncropped"),
    "errors": (
        *("NotAVideo", "RangeError", "TooLarge", "TooShort"),
        *("Undecodable", "UnsupportedFormat", "VideoError"),
    ),
    "text.labels": (
        *("Prompt", "check_template", "check_templates", "clean_label"),
        *("fill_template", "label_key", "label_prompts"),
    ),
    "limits": ("VideoLimits",),
    "pixels.crop": ("crop_frame", "resize_short_side"),
    "sampling": ("FrameRule", "sample_indices"),
    "spec": ("InputSpec", "TokenizerSpec"),
    "text.tokenizer": ("LabelTooLong", "Tokenizer"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
