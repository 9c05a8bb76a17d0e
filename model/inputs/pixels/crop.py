"""From one upright picture to the crops a network sees, by the rule of the input spec.

Both published test transforms are here: the official one (cv2 bilinear, sides rounded to the
nearest) and the Hugging Face processor's (antialiased bilinear, long side rounded down). They
resize the short side and cut the centre; only the pixels inside a crop are computed.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from model.inputs.clip import Pixels
from model.inputs.pixels.bilinear import resize_bilinear
from model.inputs.spec import InputSpec, ResizeRule

Offset = tuple[int, int]


def resized_size(height: int, width: int, short_side: int, rule: ResizeRule) -> tuple[int, int]:
    """(height, width) after the short side became `short_side`, aspect ratio kept."""
    shorter = min(height, width)
    if rule == "bilinear":
        scale = short_side / shorter
        return int(height * scale + 0.5), int(width * scale + 0.5)
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def crop_offsets(height: int, width: int, side: int, crops: int) -> list[Offset]:
    """(top, left) of each square crop of `side` pixels: the centre, or start, end, middle.

    Three crops lie along the long side in the order of the official code.
    """
    if crops == 1:
        return [((height - side) // 2, (width - side) // 2)]
    if crops != 3:
        raise ValueError(f"crops must be 1 or 3, not {crops}")
    step = max(height - side, width - side) // 2
    shifts = (0, 2 * step, step)
    return [(0, s) if width >= height else (s, 0) for s in shifts]


def crop_frame(
    image: Pixels, spec: InputSpec, crops: int = 1, displayed: tuple[int, int] | None = None
) -> Pixels:
    """The crops of one upright uint8 RGB picture (h, w, 3): (crops, H, H, 3).

    `displayed` is the (height, width) that the picture is meant to be seen at, where its pixels
    are not square; stretching and resizing are then one step. With three crops the short side
    becomes H itself, as in the official multi-view test.
    """
    short_side = spec.resize_short_side if crops == 1 else spec.image_size
    height, width = displayed or image.shape[:2]
    size = resized_size(height, width, short_side, spec.resize_rule)
    side = spec.image_size
    windows = [(top, left, side, side) for top, left in crop_offsets(size[0], size[1], side, crops)]
    resize = RESIZERS[spec.resize_rule]
    return np.stack([resize(image, size, window) for window in windows])


def resize_short_side(
    image: Pixels, spec: InputSpec, displayed: tuple[int, int] | None = None
) -> Pixels:
    """The whole picture with its short side at `spec.resize_short_side`: training starts here."""
    height, width = displayed or image.shape[:2]
    size = resized_size(height, width, spec.resize_short_side, spec.resize_rule)
    return RESIZERS[spec.resize_rule](image, size, (0, 0, *size))


def resize_antialiased(
    image: Pixels, size: tuple[int, int], window: tuple[int, int, int, int]
) -> Pixels:
    """Resize uint8 (h, w, 3) to `size` (height, width) with Pillow's bilinear; cut `window`."""
    height, width = size
    top, left, rows, columns = window
    picture = Image.fromarray(np.ascontiguousarray(image))
    whole = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return whole[top : top + rows, left : left + columns]


RESIZERS = {"bilinear": resize_bilinear, "bilinear-antialias": resize_antialiased}
