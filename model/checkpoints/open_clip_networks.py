"""Networks of open_clip as they are, for clips: built and filled by its own loaders.

Preprocessing, tokenizer, scale and bias are read off the source's own configuration.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from model.checkpoints.clip_start import OPEN_CLIP
from model.checkpoints.errors import CheckpointError
from model.checkpoints.huggingface import JSON_BYTES
from model.checkpoints.loaded import LoadedNetwork
from model.checkpoints.open_clip_tokenizers import FOLDER, tokenizer_of
from model.files import check_regular, read_bounded
from model.inputs import InputSpec, TokenizerSpec
from model.inputs.spec import CropRule, ResizeRule
from model.network.config import HEAD_WIDTH, Activation, ModelConfig
from model.network.frame_pooling import FramePooledClip, Pooling

HUB = "hf-hub:"
SCHEMES = (HUB, FOLDER, OPEN_CLIP)
# One text a label: more are better, and take that many times as long for every new label.
TEMPLATES = ("a video of {}.",)
RESIZE_RULES: Mapping[str, ResizeRule] = {
    "bilinear": "bilinear-antialias",
    "bicubic": "bicubic-antialias",
    "random": "bicubic-antialias",  # in training; what open_clip takes then
}
# What the configuration of a network of CLIP's own shape says.
PLAIN_VISION = {"image_size", "layers", "width", "patch_size", "head_width"}
PLAIN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
CROP_RULES: Mapping[str, CropRule] = {"shortest": "center-rounded", "squash": "squash"}
# Far above any network there is; what the description asks for is built before weights are read.
LARGEST = 10_000_000
LARGEST_OF = {
    **dict.fromkeys(("layers", "depth", "num_hidden_layers"), 256),
    **dict.fromkeys(("width", "embed_dim", "hidden_size", "proj_dim"), 16384),
    **dict.fromkeys(("image_size", "patch_size", "context_length", "heads", "n_queries"), 4096),
}


def read_open_clip(
    source: str, *, pooling: Pooling = "mean", num_frames: int | None = None
) -> LoadedNetwork:
    """Read a network of images and texts.

    Args:
        source: `hf-hub:ORG/NAME`, `local-dir:FOLDER` (with `open_clip_config.json`, weights, and
            its tokenizer's files), or `open_clip:MODEL/TAG`.
        pooling: How the frames of a clip become one vector; `tokens` for CoCa.
        num_frames: Frames T of a clip; None takes 8.

    Returns:
        The network in fp32, in eval mode, with the templates it is asked with by default.

    Raises:
        CheckpointError: The source cannot be read, or needs what is not supported.
    """
    config, towers = _built(source)
    with _one_line_errors(source):
        tokenizer, pad_id = tokenizer_of(_name_and_tag(source)[0], config["text_cfg"])
    frames = num_frames or ModelConfig().num_frames
    inputs = input_spec(towers.visual.preprocess_cfg, config, tokenizer.spec, pad_id, frames)
    try:
        net = FramePooledClip(
            towers,
            inputs,
            embed_dim=config["embed_dim"],
            variant=f"{_architecture(config)}, {inputs.image_size} pixels, {frames} frames, "
            f"{'mean of frames' if pooling == 'mean' else 'tokens of all frames'}",
            pooling=pooling,
        )
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from None
    note = (
        f"labels are read as {TEMPLATES[0]!r}; more templates are more accurate and slower for "
        "labels that are new: --templates kinetics28"
    )
    return LoadedNetwork(
        net.eval(),
        short_name(source),
        source,
        tokenizer=tokenizer,
        notes=(note,),
        templates=TEMPLATES,
    )


def short_name(source: str) -> str:
    """Return what a network of open_clip is called."""
    model_name, tag = _name_and_tag(source)
    return (source.removeprefix(OPEN_CLIP) if tag else Path(model_name).name).replace("/", "-")


def clip_weights(source: str) -> tuple[dict[str, Any], Activation]:
    """Read a network whose towers have CLIP's own shape, as `open_clip_weights` does.

    Raises:
        CheckpointError: The source cannot be read, or has other towers; says in what.
    """
    config, towers = _built(source)
    parts = {"vision_cfg": PLAIN_VISION, "text_cfg": PLAIN_TEXT}
    odd = [
        f"{key} {value!r}"
        for part, plain in parts.items()
        for key, value in config[part].items()
        if value and key not in plain
    ]
    odd += ["a ResNet"] * isinstance(config["vision_cfg"].get("layers"), list)
    odd += ["a text tower of its own"] * bool(config.get("custom_text"))
    widths = {config["vision_cfg"].get("head_width", HEAD_WIDTH)}
    widths |= {config["text_cfg"]["width"] // config["text_cfg"]["heads"]}
    odd += [f"heads of width {width}" for width in sorted(widths - {HEAD_WIDTH})]
    if odd:
        raise CheckpointError(
            f"{source} has other towers than CLIP's ViT ({', '.join(odd)}): X-CLIP's parts cannot "
            "be added to it; export takes it as it is"
        )
    return towers.state_dict(), "quick_gelu" if config.get("quick_gelu") else "gelu"


def _built(source: str) -> tuple[dict[str, Any], Any]:
    """Return the configuration of a network, and the network with its weights, in eval mode."""
    import model.torchvision_schemas  # noqa: F401, I001  (before torchvision)
    import open_clip

    model_name, tag = _name_and_tag(source)
    with _one_line_errors(source):
        if model_name.startswith(FOLDER):
            _check_folder(Path(model_name.removeprefix(FOLDER)))
        config = open_clip.get_model_config(model_name)
        if config is None:
            raise CheckpointError(
                f"open_clip knows no model {model_name!r}; an example is {OPEN_CLIP}ViT-B-16/openai"
            )
        _check_sizes(source, config)
        published = open_clip.get_pretrained_cfg(model_name, tag) if tag else {}
        towers = open_clip.create_model(
            model_name,
            pretrained=tag,
            require_pretrained=True,
            # The activation belongs to the tag, not to the model of the same name.
            force_quick_gelu=bool(published.get("quick_gelu", False)),
        )
    return config, towers.eval()


def _check_folder(folder: Path) -> None:
    """Raise OSError where a file is none, such as a pipe, or a description is without end."""
    for file in folder.iterdir():
        if file.suffix == ".json":
            read_bounded(file, JSON_BYTES)
        elif not file.is_dir():
            check_regular(file)


def _check_sizes(source: str, config: object, name: str = "") -> None:
    """Refuse a description of a network that no memory would hold."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            _check_sizes(source, value, str(key))
    elif isinstance(config, list | tuple):
        for value in config:
            _check_sizes(source, value, name)
    elif _is_number(config) and not abs(config) <= (most := LARGEST_OF.get(name, LARGEST)):
        raise CheckpointError(f"{source}: {name} is {config!s:.20}, at most {most} is supported")


def input_spec(
    preprocess: Mapping[str, Any],
    config: Mapping[str, Any],
    tokenizer: TokenizerSpec,
    pad_id: int,
    num_frames: int,
) -> InputSpec:
    """Return the input spec of open_clip's `preprocess_cfg` and model configuration."""
    size = preprocess["size"]
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise CheckpointError(f"pictures of {size} pixels are not supported: they must be square")
    (side,) = sides
    mode = preprocess["resize_mode"]
    if mode not in CROP_RULES:
        raise CheckpointError(
            f"resize_mode {mode!r} is not supported: open_clip_config.json must say shortest or "
            "squash"
        )
    # PE-Core's own evaluation takes frames from the first to the last (Bolya et al. 2025).
    ends = "pe_core" in config["vision_cfg"].get("timm_model_name", "")
    return InputSpec(
        num_frames=num_frames,
        image_size=side,
        resize_short_side=side,
        frame_rule="ends" if ends else "middle",
        resize_rule=RESIZE_RULES[preprocess["interpolation"]],
        crop=CROP_RULES[mode],
        mean=_on_bytes(preprocess["mean"]),
        std=_on_bytes(preprocess["std"]),
        context_length=config["text_cfg"].get("context_length", 77),
        pad_id=pad_id,
        tokenizer=tokenizer,
    )


def _on_bytes(values: Any) -> tuple[float, float, float]:
    red, green, blue = (
        round(float(v) * 255, 6) for v in ([values] * 3 if _is_number(values) else values)
    )
    return red, green, blue


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)


def _name_and_tag(source: str) -> tuple[str, str | None]:
    if not source.startswith(OPEN_CLIP):
        return source, None
    name, _, tag = source.removeprefix(OPEN_CLIP).partition("/")
    if not tag:
        raise CheckpointError(
            f"{source} names no weights: an example is {OPEN_CLIP}ViT-B-16/openai"
        )
    return name, tag


def _architecture(config: Mapping[str, Any]) -> str:
    vision = config["vision_cfg"]
    if "timm_model_name" in vision:
        return str(vision["timm_model_name"])
    kind = "CoCa" if "multimodal_cfg" in config else "CLIP"
    layers, width = vision.get("layers"), vision.get("width")
    if isinstance(layers, int):
        return f"{kind} ViT of {layers} layers, width {width}, patch {vision.get('patch_size')}"
    return f"{kind} ResNet of {layers} layers, width {width}"


@contextmanager
def _one_line_errors(source: str) -> Iterator[None]:
    """Say in one line what open_clip, transformers or the hub's client could not do."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it reports every step on the root logger
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CheckpointError:
        raise
    # Each library has its own errors, in every version others.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{source} cannot be read: {reason}") from None
    finally:
        logger.setLevel(level)
