"""The published figures, for comparison: X-CLIP (Ni et al., ECCV 2022) and its repository.

Base-to-novel is a protocol of ViFi-CLIP (Rasheed et al., CVPR 2023), whose row for X-CLIP stands
here.
"""

from __future__ import annotations

from typing import Literal, get_args

Protocol = Literal["supervised", "zero-shot", "few-shot", "base-to-novel"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

# (data, `ModelConfig.variant`) -> top-1, top-5 of 4 × 3 views
SUPERVISED = {
    ("k400", "B/32, 224 pixels, 8 frames"): (80.4, 95.0),
    ("k400", "B/32, 224 pixels, 16 frames"): (81.1, 95.5),
    ("k400", "B/16, 224 pixels, 8 frames"): (83.8, 95.7),
    ("k400", "B/16, 224 pixels, 16 frames"): (84.7, 96.8),
    ("k400", "L/14, 224 pixels, 8 frames"): (87.1, 97.6),
    ("k400", "L/14, 336 pixels, 16 frames"): (87.7, 97.4),
    ("k600", "B/16, 224 pixels, 8 frames"): (85.3, 97.1),
    ("k600", "B/16, 224 pixels, 16 frames"): (85.8, 97.3),
    ("k600", "L/14, 224 pixels, 8 frames"): (88.3, 97.7),
}
# B/16, 32 frames, trained on K400: mean and deviation over the splits
ZERO_SHOT = {"hmdb51": (44.6, 5.2), "ucf101": (72.0, 2.3), "k600": (65.2, 0.4)}
# B/16, 32 frames: (data, clips a class) -> top-1
FEW_SHOT = {
    ("hmdb51", 2): 53.0, ("hmdb51", 4): 57.3, ("hmdb51", 8): 62.8, ("hmdb51", 16): 64.0,
    ("ucf101", 2): 76.4, ("ucf101", 4): 83.4, ("ucf101", 8): 88.3, ("ucf101", 16): 91.4,
}  # fmt: skip
# B/16, 32 frames: base, novel, harmonic mean
BASE_TO_NOVEL = {
    "k400": (74.1, 56.4, 64.0),
    "hmdb51": (69.4, 45.5, 55.0),
    "ucf101": (89.9, 58.9, 71.2),
    "ssv2": (8.5, 6.6, 7.4),
}
DATASETS = ("k400", "k600", "hmdb51", "ucf101", "ssv2")


def published(
    protocol: Protocol, dataset: str | None, network: str, shots: int | None
) -> dict[str, float]:
    """Return the paper's percentages under our names for them; empty where it has none."""
    if dataset is None:
        return {}
    if protocol == "supervised":
        return _named(("top1", "top5"), SUPERVISED.get((dataset, network)))
    if network != "B/16, 224 pixels, 32 frames":
        return {}
    if protocol == "zero-shot":
        return _named(("mean", "std"), ZERO_SHOT.get(dataset))
    if protocol == "few-shot":
        top1 = FEW_SHOT.get((dataset, shots or 0))
        return {} if top1 is None else {"top1": top1}
    return _named(("base", "novel", "harmonic"), BASE_TO_NOVEL.get(dataset))


def _named(names: tuple[str, ...], values: tuple[float, ...] | None) -> dict[str, float]:
    return dict(zip(names, values, strict=True)) if values else {}
