"""`bundle.json`: what a bundle says about itself.

The service takes no fact about the network from anywhere else: which graphs there are and what
they are called with, how frames and text are prepared, in which precisions the graphs may run, and
how far each was measured from torch.
"""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from export.bundle.calibration import Calibration
from model.inputs import InputSpec, check_templates

FORMAT_VERSION: Literal[1] = 1
MANIFEST_FILE = "bundle.json"

GraphName = Literal["video_encoder", "text_encoder", "score_head"]
PrecisionName = Literal["fp32", "fp16", "bf16", "int8"]
RuntimeName = Literal[
    "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "openvino", "fake"
]
CONTROLS = ("Cc", "Zl", "Zp")  # Unicode categories
GRAPH_NAMES: tuple[GraphName, ...] = ("video_encoder", "text_encoder", "score_head")


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} does not lie inside the bundle")
    return path


def _one_line(text: str) -> str:
    """Refuse escape sequences and line breaks: names are printed on terminals and into logs."""
    if any(unicodedata.category(character) in CONTROLS for character in text):
        raise ValueError(f"{text!r} holds control characters")
    return text


BundlePath = Annotated[str, AfterValidator(_inside)]
OneLine = Annotated[str, AfterValidator(_one_line)]


Templates = Annotated[tuple[str, ...], AfterValidator(check_templates)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorInfo(_Part):
    """One input or output of a graph; a name in `shape` is an axis that may vary."""

    name: str
    dtype: Literal["uint8", "int64", "float32"]
    shape: tuple[int | str, ...]


class GraphInfo(_Part):
    """One graph: its fp32 file and what it is called with."""

    file: BundlePath
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


class ParityCase(_Part):
    """Torch against the runtime for one number of clips, labels and text length.

    `max_logit_error` is the largest absolute difference; `inverted_gap` the largest difference in
    torch's logits between two labels that the runtime puts in the other order (0: same order).
    """

    clips: int
    labels: int
    token_length: int
    max_logit_error: float
    inverted_gap: float
    top1_agreement: float


class Parity(_Part):
    """How far one runtime was from torch, on which clips, and what was allowed."""

    runtime: RuntimeName
    precision: PrecisionName
    clips: tuple[str, ...]
    clip_source: Literal["given", "generated"]
    cases: tuple[ParityCase, ...]
    max_logit_error: float
    min_cosine: dict[str, float]
    top1_agreement: float
    same_order: bool
    logit_limit: float
    cosine_limit: float
    passed: bool
    forced: bool = False


class PrecisionBuild(_Part):
    """One way to run the graphs: on which runtimes, from which files, how far from torch.

    `graphs` names the files that differ from the fp32 ones, `reduced` the graphs that are computed
    in this precision; the others stay in fp32. No `runtimes` means any. `clips_per_run` bounds a
    video batch where clips in one batch would change each other's result.
    """

    precision: PrecisionName
    runtimes: tuple[RuntimeName, ...] = ()
    graphs: dict[GraphName, BundlePath] = Field(default_factory=dict)
    reduced: tuple[GraphName, ...] = ()
    clips_per_run: Annotated[int, Field(gt=0)] | None = None
    method: str
    parity: tuple[Parity, ...] = ()

    def runs_on(self, runtime: str) -> bool:
        """Tell whether this build was made for the runtime."""
        return not self.runtimes or runtime in self.runtimes

    def graph_precision(self, graph: GraphName) -> PrecisionName:
        """Return what a graph is computed in."""
        return self.precision if graph in self.reduced else "fp32"


class EngineInfo(_Part):
    """A TensorRT engine; it runs only where all three keys match."""

    graph: GraphName
    file: BundlePath
    gpu_architecture: str
    tensorrt_version: str
    precision: PrecisionName
    max_clips: int
    max_labels: int


class LabelSetInfo(_Part):
    """A stored list of labels and the file of its vectors."""

    count: int
    vectors: BundlePath
    prompts: BundlePath


class BundleDescription(_Part):
    """What a bundle says of its network: `bundle.json` without the hashes of its files.

    `logit_scale` is what cosines were multiplied with (the exponential of the network's parameter),
    `logit_bias` what was then added: not 0 where each label was trained for itself, by a sigmoid.
    `templates` are the prompts that the network was trained with, each with one `{}`: a label that
    comes without a template is filled into each of them and compared with the mean of their
    vectors. None, as in bundles made before there was this field: the label is read as it is.
    `calibration` is what `xclip-serve calibrate` measured on clips of the user's own.
    `licence` is that of the weights as their owner states it, where that is known.
    """

    format_version: Literal[1] = FORMAT_VERSION
    name: OneLine
    variant: OneLine
    source: OneLine
    licence: OneLine | None = None
    trained: bool
    warnings: tuple[str, ...] = ()
    logit_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    logit_bias: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    inputs: InputSpec
    templates: Templates = ()
    graphs: dict[GraphName, GraphInfo]
    precisions: Annotated[tuple[PrecisionBuild, ...], Field(min_length=1)]
    engines: tuple[EngineInfo, ...] = ()
    labels: dict[str, LabelSetInfo] = Field(default_factory=dict)
    tokenizer: BundlePath = "tokenizer.json"
    tokenizer_hash: str
    versions: dict[str, str]
    # Left out where there is none: programs from before it read such a manifest as well.
    calibration: Annotated[Calibration | None, Field(exclude_if=lambda value: value is None)] = None


class BundleManifest(BundleDescription):
    """The whole of `bundle.json`. `files` has the SHA-256 of every other file."""

    files: dict[BundlePath, str]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in GRAPH_NAMES if name not in self.graphs]
        if missing:
            raise ValueError(f"graphs: {', '.join(missing)} missing")
        unhashed = sorted(self._named_files() - set(self.files))
        if unhashed:
            raise ValueError(f"files: no hash for {', '.join(unhashed)}")
        return self

    def _named_files(self) -> set[str]:
        named = {self.tokenizer, *(graph.file for graph in self.graphs.values())}
        named |= {file for build in self.precisions for file in build.graphs.values()}
        named |= {engine.file for engine in self.engines}
        for labels in self.labels.values():
            named |= {labels.vectors, labels.prompts}
        return named

    def files_for(self, precision: str) -> dict[str, str]:
        """Return `files` without the graphs, and their weights, that only other precisions read."""
        read: set[str] = set()
        spared: set[str] = set()
        for build in self.precisions:
            graphs = {build.graphs.get(name, graph.file) for name, graph in self.graphs.items()}
            (read if build.precision == precision else spared).update(graphs)
        spared -= read
        return {
            file: digest
            for file, digest in self.files.items()
            if not any(file == graph or file.startswith(f"{graph}.") for graph in spared)
        }

    @property
    def native_sigmoid(self) -> bool:
        """Whether each label was trained for itself, so that the sigmoid of its logit means it."""
        return self.logit_bias != 0

    @property
    def default_precision(self) -> PrecisionName:
        """The precision that is used where none is asked for."""
        return self.precisions[0].precision

    @property
    def text_dim(self) -> int:
        """Length of a label vector."""
        size = self.graphs["text_encoder"].outputs[0].shape[-1]
        if not isinstance(size, int):
            raise ValueError(f"text_encoder's vector length {size!r} must be a number")
        return size
