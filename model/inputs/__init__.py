"""What goes into the model: clips, frames, pixels, label text. Needs no torch."""

from model.inputs.allocation import limit_libav_allocations
from model.inputs.clip import Clip, VideoInfo
from model.inputs.decode import decode_clip, decode_uncropped
from model.inputs.errors import (
    NotAVideo,
    RangeError,
    TooLarge,
    TooShort,
    Undecodable,
    UnsupportedFormat,
    VideoError,
)
from model.inputs.labels import Prompt, check_template, clean_label, fill_template, label_key
from model.inputs.limits import VideoLimits
from model.inputs.pixels import crop_frame, resize_short_side
from model.inputs.sampling import sample_indices
from model.inputs.spec import InputSpec
from model.inputs.tokenizer import LabelTooLong, Tokenizer

__all__ = [
    "Clip",
    "InputSpec",
    "LabelTooLong",
    "NotAVideo",
    "Prompt",
    "RangeError",
    "Tokenizer",
    "TooLarge",
    "TooShort",
    "Undecodable",
    "UnsupportedFormat",
    "VideoError",
    "VideoInfo",
    "VideoLimits",
    "check_template",
    "clean_label",
    "crop_frame",
    "decode_clip",
    "decode_uncropped",
    "fill_template",
    "label_key",
    "limit_libav_allocations",
    "resize_short_side",
    "sample_indices",
]
