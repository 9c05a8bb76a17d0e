"""What a training run is told. Every default stands here, or in `model.data.config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from model.data.config import (
    AugmentConfig,
    Count,
    DataConfig,
    Factor,
    Positive,
    Probability,
    Section,
)
from model.inputs import InputSpec
from model.network.config import VARIANTS, Activation, ModelConfig

Rate = Annotated[float, Field(ge=0)]
Figure = Literal["top1", "top5", "macro", "loss"]


class AddedParts(Section):
    """What an X-CLIP has and CLIP has not. Zero layers, or false, leave a part out."""

    mit_layers: Count = 1
    """Layers of the multi-frame integration transformer; without it the mean of the frames."""
    prompt_layers: Count = 2
    """Layers of the video-specific prompts."""
    cross_frame_messages: bool = True
    """Whether frames see each other."""
    time_table_std: Annotated[float, Field(ge=0)] = 0.02
    """Spread of the first values of the time table, where it is new. With little data order is
    found sooner when they are as large as the features, about 1."""


class StartConfig(Section):
    """The network that training starts from: an existing one, or one from scratch."""

    source: str | None = None
    """Anything python -m model.convert takes, for example open_clip:ViT-B-16-quickgelu/openai."""
    frames: Positive | None = None
    """Frames of a clip (T). Where the source has another number its time table is resampled."""
    parts: AddedParts | None = None
    """Which parts the network is to have beside CLIP's: those that the source lacks begin with
    their published first values. Default: those of the source."""
    activation: Activation | None = None
    """For files of plain CLIP, which do not tell theirs."""
    architecture: ModelConfig | None = None
    """Start from scratch, text tower included: widths and depths, or the name of a variant."""
    tokenizer_merges: Count | None = None
    """From scratch: a vocabulary of CLIP's first merges; it sets vocab_size. Default: all."""
    position_table: Literal["noise", "sines"] = "noise"
    """From scratch: first values of the vision tower's table of places, CLIP's noise or sines and
    cosines of row and column. With little data noise hardly ever becomes a sense of place."""
    inputs: InputSpec | None = None
    """From scratch: how frames are prepared, if not as the official code does."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Stochastic depth; published runs use 0."""

    @field_validator("architecture", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in VARIANTS:
                raise ValueError(f"no variant {value!r}; there are: {', '.join(VARIANTS)}")
            return VARIANTS[value]
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.source is None) == (self.architecture is None):
            raise ValueError("set either start.source or start.architecture")
        scratch = (self.tokenizer_merges, self.inputs, self.position_table)
        if self.source is not None and scratch != (None, None, "noise"):
            raise ValueError(
                "tokenizer_merges, inputs and position_table belong to a start from scratch"
            )
        if self.architecture is not None and self.parts is not None:
            raise ValueError("parts belong to a source; from scratch, architecture has them")
        return self


class MixingConfig(Section):
    """Mixup and CutMix: each group of clips is mixed with itself by one of them."""

    probability: Probability = 1.0
    """How often a group is mixed at all; the published recipe always mixes."""
    cutmix_share: Probability = 0.5
    """CutMix rather than mixup."""
    mixup_alpha: Annotated[float, Field(gt=0)] = 0.8
    """Both parameters of the beta distribution of mixup's share."""
    cutmix_alpha: Annotated[float, Field(gt=0)] = 1.0
    """Both parameters of the beta distribution of CutMix's share."""
    group: Positive | None = None
    """Clips that share one mixing. Default: a micro-batch, as published."""


class LossConfig(Section):
    """Cross-entropy over labels, with soft targets."""

    over: Literal["labels", "captions"] = "labels"
    """All labels of the list, each in one of the wordings of its clips; or the captions of the
    batch: every clip brings one of its wordings. A wording that is also true of another clip counts
    as right for that one too."""
    extra_captions: Count = 0
    """Over captions: so many others, drawn from the whole list, stand beside the batch's own."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Label smoothing."""
    teacher: Path | None = None
    """A bundle, of any network, whose scores are targets beside the labels: its answers to all
    clips are asked once and kept. Over labels only."""
    teacher_share: Probability = 0.5
    """Of the target; with 1 the labels of clips have no part. Clips that nobody labelled
    (data.train without the column label, or with its field empty) have the teacher's answer
    alone, over data.labels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.teacher is not None and self.over != "labels":
            raise ValueError("loss.teacher scores labels: set loss.over to labels")
        return self


class OptimConfig(Section):
    """AdamW, or Muon with AdamW."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw, as published; muon for training from scratch: updates of matrices are made
    orthogonal, of the size that AdamW's have, and AdamW does the rest."""
    lr: Rate = 8e-6
    """Base learning rate: the vision tower's, and the text tower's where it is trained."""
    new_parts_factor: Factor = 10.0
    """Times the base rate: integration transformer, prompts and cross-frame messages."""
    betas: tuple[Probability, Probability] = (0.9, 0.98)
    """Decay of the first and second moments."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Factor = 1e-3
    """For matrices; vectors, biases and position tables have none."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient; the published recipe does not clip."""


class ScheduleConfig(Section):
    """Linear warm-up, then half a cosine, update by update."""

    epochs: Annotated[float, Field(gt=0)] = 30
    """Length of the run."""
    warmup_epochs: Factor = 5
    """Length of the warm-up."""
    min_factor: Probability = 0.01
    """The lowest rate, for all groups, as a part of the base rate."""
    form: Literal["published", "smooth"] = "published"
    """As released: the cosine counts from the start of training, so the rate drops where warm-up
    ends, and the first updates have rate 0. `smooth` has neither: the cosine begins after it."""
    patience: Positive | None = None
    """End the run after so many evaluations in a row that were no better by save.best."""


class BatchConfig(Section):
    """Clips of one update."""

    size: Positive = 256
    """Over all processes; what the learning rate belongs to."""
    per_process: Positive | None = None
    """At a time on each process; gradients are accumulated up to the size. Default: all at once."""


class ComputeConfig(Section):
    """On what and how the arithmetic is done."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Autocast; weights stay fp32. auto takes bf16 where the device multiplies it, else fp32."""
    tf32: bool = False
    """On a GPU, round the factors of fp32 products to ten bits: faster, and no longer fp32."""
    channels_last: bool = False
    """Keep the patch filters in channels-last order, as the frames are in any case."""
    compile: bool = False
    """torch.compile: minutes at the start, faster updates after them."""
    checkpoint_segments: Count = 0
    """Recompute the vision blocks in so many segments to save memory (336 pixels: 3)."""
    threads: Positive | None = None
    """CPU threads of each process. Default: torch's own choice, one for each processor that the
    process may use; with torchrun one. Threads that wait for each other go to sleep soon, so that
    other work beside a run costs its share and no more."""


class EvaluateConfig(Section):
    """Accuracy on data.val during the run."""

    every_epochs: Positive = 1
    """Always also at the end."""
    at_start: bool = True
    """Also before the first update: what the network knew already."""
    batch: Positive = 8
    """Views at a time."""
    views: Positive = 1
    """Evenly shifted views in time."""
    crops: Literal[1, 3] = 1
    """Crops along the long side."""


class SaveConfig(Section):
    """Snapshots, from which the same command goes on."""

    every_epochs: Positive = 1
    """Always also at the end."""
    every_updates: Positive | None = None
    """Also within an epoch."""
    keep: Annotated[int, Field(ge=2)] = 2
    """So many are kept: where the last is damaged the run goes on from the one before."""
    best: Figure | None = None
    """End with the network of the best evaluation instead of the last: by top1 or top5 accuracy,
    macro (the mean of the classes' top1) or loss, on data.val. Its snapshot is kept as well; of
    equal ones the first counts, the start included."""


class KeptConfig(Section):
    """What is computed once instead of in every epoch."""

    features: bool = False
    """Encode each clip once and train the rest on that: for vision frozen, and augment and mixing
    off (augment: {frames: evenly, scales: [1.0], positions: centre, flip: 0, jitter: 0, grey: 0}).
    Kept in data.cache.folder, or else in the run's folder."""


class LogConfig(Section):
    """What is written down while training."""

    every_updates: Positive = 20
    """A line on the screen where there is no progress bar; metrics.jsonl has every update."""
    tensorboard: bool = True
    """Write event files."""


class TrainConfig(Section):
    """A whole training run. The same values, seed included, give the same weights."""

    output: Path
    """Folder of the run: snapshots, metrics, report, and at the end the checkpoint."""
    name: str | None = None
    """Name of the trained network. Default: the name of the output folder."""
    start: StartConfig
    """Where the weights come from."""
    text: Literal["frozen", "trainable"] = "frozen"
    """The text tower; frozen, as published, the label vectors are computed once."""
    vision: Literal["trainable", "frozen"] = "trainable"
    """The vision tower with its messages; frozen, an update takes a third of the time."""
    data: DataConfig = DataConfig()
    """Clips and labels."""
    augment: AugmentConfig = AugmentConfig()
    """What is done to the pixels."""
    cache: KeptConfig = KeptConfig()
    """What is computed once."""
    mixing: MixingConfig = MixingConfig()
    """Clips mixed with each other."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    optim: OptimConfig = OptimConfig()
    """How gradients become updates."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate over time."""
    batch: BatchConfig = BatchConfig()
    """Clips of one update."""
    compute: ComputeConfig = ComputeConfig()
    """Device and precision."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Accuracy during the run."""
    save: SaveConfig = SaveConfig()
    """Snapshots."""
    log: LogConfig = LogConfig()
    """Screen and files."""
    seed: Count = 1024
    """Decides first values, order, sampling, augmentation and mixing."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.save.best and not self.data.val:
            raise ValueError("save.best is measured on data.val, which is empty: set it")
        if self.schedule.patience and not self.save.best:
            raise ValueError("schedule.patience waits for save.best: set it, for example to top1")
        self._check_features()
        return self

    def _check_features(self) -> None:
        """Refuse what would change what is computed once."""
        needed = {
            "vision: frozen": self.vision == "frozen",
            "mixing.probability: 0": self.mixing.probability == 0,
            "start.drop_path: 0": not self.start.drop_path,
            "augment: {frames: evenly, scales: [1.0], positions: centre, flip: 0, jitter: 0, "
            "grey: 0}": self.augment.off,
        }
        missing = [key for key, given in needed.items() if not given]
        if self.cache.features and missing:
            raise ValueError(f"cache.features needs {', '.join(missing)}")
