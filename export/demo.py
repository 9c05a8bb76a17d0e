"""The bundle that comes in the package: a tiny X-CLIP that has not been trained.

    python -m export.demo [--output service/demo_bundle]

It shows that everything works on any machine within seconds; its ranking means nothing, and every
answer says so. The same versions of the libraries always give the same bundle.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from export.build import BundleOptions, make_bundle
from export.bundle import Bundle
from export.progress import Steps
from model.checkpoint import Checkpoint
from model.config import ModelConfig
from model.inputs import Tokenizer
from model.xclip import build_xclip

MERGES = 4096
SPECIAL_TOKENS = 2 * 256 + 2
CONFIG = ModelConfig(
    image_size=112,
    patch_size=16,
    num_frames=8,
    vision_width=128,
    vision_layers=3,
    embed_dim=64,
    text_width=64,
    text_layers=2,
    vocab_size=MERGES + SPECIAL_TOKENS,
)
LABELS = (
    "playing the guitar;riding a bike;swimming;cooking;dancing;running;arm wrestling;reading;"
    "drinking;opening a door;jumping;clapping;washing dishes;playing football;brushing hair;"
    "driving a car;painting;climbing a rope;walking a dog;juggling balls"
)


def make_demo_bundle(output: Path, steps: Steps) -> Bundle:
    """Make it, replacing an older one."""
    net = build_xclip(CONFIG, seed=0)
    tokenizer = Tokenizer.truncated(MERGES)
    checkpoint = Checkpoint(net, "tiny-untrained", "fresh weights, seed 0", False, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "everyday.csv"
        rows = [f"{i},{name}\n" for i, name in enumerate(LABELS.split(";"))]
        labels.write_text("id,name\n" + "".join(rows))
        return make_bundle(
            checkpoint, output, BundleOptions(label_files=(labels,), overwrite=True), steps
        )


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.demo", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, default=Path("service/demo_bundle"))
    bundle = make_demo_bundle(parser.parse_args(argv).output, Steps())
    size = sum(bundle.file(name).stat().st_size for name in bundle.manifest.files)
    print(f"{bundle.path}: {size / 1e6:.1f} MB, sha256:{bundle.hash}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
