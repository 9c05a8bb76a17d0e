"""From one upright picture to the crops a network sees, by the rule of the input spec.

The published test transforms are here: the official one (cv2 bilinear, sides rounded to the
nearest), the Hugging Face processor's (antialiased bilinear, long side rounded down) and those of
open_clip (Pillow's bilinear or bicubic, centre cut or both sides squashed). With cv2's rule only
the pixels inside a crop are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from PIL import Image

from model.inputs.clip import Pixels
from model.inputs.pixels.bilinear import resize_bilinear
from model.inputs.spec import CropRule, InputSpec, ResizeRule

Offset = tuple[int, int]
# A picture, the size to come to, and the window of it that is wanted.
Resizer = Callable[[Pixels, tuple[int, int], tuple[int, int, int, int]], Pixels]


def resized_size(height: int, width: int, short_side: int, rule: ResizeRule) -> tuple[int, int]:
    """Return (height, width) after the short side became `short_side`, aspect ratio kept."""
    shorter = min(height, width)
    if rule == "bilinear":
        scale = short_side / shorter
        return int(height * scale + 0.5), int(width * scale + 0.5)
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def crop_offsets(
    height: int, width: int, side: int, crops: int, rule: CropRule = "center"
) -> list[Offset]:
    """Return (top, left) of each square crop of `side` pixels: the centre, or start, end, middle.

    Three crops lie along the long side in the order of the official code.
    """
    if crops == 1 and rule == "center-rounded":
        return [(round((height - side) / 2), round((width - side) / 2))]
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
    """Cut the crops of one upright uint8 RGB picture (h, w, 3): (crops, H, H, 3).

    `displayed` is the (height, width) that the picture is meant to be seen at, where its pixels
    are not square; stretching and resizing are then one step. With three crops the short side
    becomes H itself, as in the official multi-view test.
    """
    short_side = spec.resize_short_side if crops == 1 else spec.image_size
    size = _resized(image, spec, short_side, displayed)
    side = spec.image_size
    offsets = crop_offsets(size[0], size[1], side, crops, spec.crop)
    windows = [(top, left, side, side) for top, left in offsets]
    resize = RESIZERS[spec.resize_rule]
    cut = [resize(image, size, window) for window in windows]
    if len(cut) == 1 and _is_most_of_its_memory(cut[0]):
        return cut[0][None]
    return np.stack(cut)


def _is_most_of_its_memory(image: Pixels) -> bool:
    """Return whether what is left of a picture is at least half of what it is a view of: a strip
    thousands of pixels long is not kept for the square in its middle.
    """
    whole = image if image.base is None else image.base
    return isinstance(whole, np.ndarray) and whole.nbytes <= 2 * image.nbytes


def resize_short_side(
    image: Pixels, spec: InputSpec, displayed: tuple[int, int] | None = None
) -> Pixels:
    """Resize a picture to a short side of `spec.resize_short_side`: training starts here."""
    size = _resized(image, spec, spec.resize_short_side, displayed)
    return RESIZERS[spec.resize_rule](image, size, (0, 0, *size))


def _resized(
    image: Pixels, spec: InputSpec, short_side: int, displayed: tuple[int, int] | None
) -> tuple[int, int]:
    """Return (height, width) of the whole picture out of which the crops are cut."""
    if spec.crop == "squash":
        return short_side, short_side
    height, width = displayed or image.shape[:2]
    return resized_size(height, width, short_side, spec.resize_rule)


def resize_antialiased(
    image: Pixels,
    size: tuple[int, int],
    window: tuple[int, int, int, int],
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Pixels:
    """Resize uint8 (h, w, 3) to `size` (height, width) with Pillow; cut `window`."""
    height, width = size
    top, left, rows, columns = window
    picture = Image.fromarray(np.ascontiguousarray(image))
    whole = np.asarray(picture.resize((width, height), resampling))
    return whole[top : top + rows, left : left + columns]


RESIZERS: Mapping[ResizeRule, Resizer] = {
    "bilinear": resize_bilinear,
    "bilinear-antialias": resize_antialiased,
    "bicubic-antialias": partial(resize_antialiased, resampling=Image.Resampling.BICUBIC),
}
