"""What the shapes move over: plain, gradients, textures, things that look like photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Picture = NDArray[np.uint8]
KINDS = ("plain", "gradient", "clouds", "fractal", "polygons", "stripes", "landscape", "noise")
SHARES = (0.34, 0.12, 0.12, 0.12, 0.1, 0.05, 0.1, 0.05)
PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
GREYS = (0, 255, 128, 40, 210)


def draw_background(
    rng: np.random.Generator, size: tuple[int, int], pictures: tuple[Path, ...] = ()
) -> Picture:
    """Draw a picture (h,w,3) of `size` (height, width); half from `pictures` if there are any."""
    if pictures and rng.random() < 0.5:
        return _photograph(rng, size, pictures[int(rng.integers(len(pictures)))])
    kind = str(rng.choice(KINDS, p=SHARES))
    picture = DRAWN[kind](rng, size).astype(np.float32)
    if kind == "plain":
        return picture.astype(np.uint8)
    return _muted(rng, picture)


def find_pictures(folder: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder, in order. ValueError where there are none."""
    pictures = tuple(sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES))
    if not pictures:
        raise ValueError(f"{folder} holds no picture ({', '.join(sorted(PICTURES))})")
    return pictures


def _muted(rng: np.random.Generator, picture: NDArray[np.float32]) -> Picture:
    """Take colour and contrast away, as most photographs have less than a painted shape."""
    colour, contrast = rng.uniform(0.1, 1.0), rng.uniform(0.25, 1.0)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + (picture - grey) * colour
    middle = picture.mean()
    target = rng.uniform(40, 215) if rng.random() < 0.5 else middle
    return np.clip((picture - middle) * contrast + target, 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.uniform(0, 255, 3).astype(np.float32)


def _plain(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    grey = rng.random() < 0.6
    colour = np.full(3, float(rng.choice(GREYS))) if grey else _colour(rng)
    return np.broadcast_to(colour.astype(np.float32), (*size, 3)).copy()


def _gradient(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = x / size[1] * np.cos(angle) + y / size[0] * np.sin(angle)
    ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6)
    first, last = _colour(rng), _colour(rng)
    return first + (last - first) * ramp[:, :, None].astype(np.float32)


def _smooth(rng: np.random.Generator, size: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Draw random colours on a coarse grid, smoothly enlarged."""
    rows = max(cells * size[0] // max(size), 2)
    columns = max(cells * size[1] // max(size), 2)
    coarse = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    enlarged = Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float32)


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    return _smooth(rng, size, int(rng.integers(2, 9)))


def _fractal(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    total, weight, share = np.zeros((*size, 3), np.float32), 0.0, 1.0
    falloff = rng.uniform(0.45, 0.85)
    for octave in range(1, 7):
        total += share * _smooth(rng, size, 2**octave + 1)
        weight, share = weight + share, share * falloff
    return np.clip((total / weight - 128) * 1.8 + 128, 0, 255)


def _polygons(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    picture = Image.new("RGB", (size[1], size[0]), tuple(_colour(rng).astype(int)))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 25))):
        centre, reach = rng.uniform(0, 1, 2), rng.uniform(0.03, 0.4)
        corners = centre + rng.uniform(-reach, reach, (int(rng.integers(3, 7)), 2))
        points = [(float(x * size[1]), float(y * size[0])) for x, y in corners]
        draw.polygon(points, fill=tuple(_colour(rng).astype(int)))
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
    return np.asarray(picture, dtype=np.float32)


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    period, angle = rng.uniform(0.06, 0.5) * min(size), rng.uniform(0, np.pi)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
    if rng.random() < 0.5:
        wave = np.sign(wave) * np.sign(np.sin((y * np.cos(angle) - x * np.sin(angle)) / period * 6))
    return _colour(rng) + (_colour(rng) - 128) * 0.7 * wave[:, :, None].astype(np.float32)


def _landscape(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Draw a sky over a ground, each with its texture, and some things standing about."""
    sky, ground = _gradient(rng, size), _fractal(rng, size)
    horizon = int(size[0] * rng.uniform(0.3, 0.75))
    picture = sky * 0.7 + _smooth(rng, size, 5) * 0.3
    picture[horizon:] = ground[horizon:] * 0.6 + _colour(rng) * 0.4
    things = _polygons(rng, size)
    mask = _smooth(rng, size, int(rng.integers(3, 12))).mean(axis=2, keepdims=True) > 150
    return np.where(mask, things * 0.8 + 20, picture)


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    channels = 3 if rng.random() < 0.5 else 1
    grain = rng.normal(0, rng.uniform(8, 60), (*size, channels))
    return (_colour(rng) + grain).astype(np.float32)


def _photograph(rng: np.random.Generator, size: tuple[int, int], file: Path) -> Picture:
    """Cut out a random part of a picture file."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    share = rng.uniform(0.4, 1.0)
    scale = min(picture.width / size[1], picture.height / size[0]) * share
    width, height = size[1] * scale, size[0] * scale
    left = rng.uniform(0, picture.width - width)
    top = rng.uniform(0, picture.height - height)
    box = (left, top, left + width, top + height)
    part = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    return np.asarray(part, dtype=np.uint8)


DRAWN = {
    "plain": _plain,
    "gradient": _gradient,
    "clouds": _clouds,
    "fractal": _fractal,
    "polygons": _polygons,
    "stripes": _stripes,
    "landscape": _landscape,
    "noise": _noise,
}
