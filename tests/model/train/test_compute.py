"""How a run computes: what must not change a result does not, what may is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml

from model.data.frames.loading import Batch
from model.network.initialise import build_xclip
from model.processes import allow_tf32
from model.train import update
from model.train.config import OptimConfig
from model.train.device_prefetch import DevicePrefetch
from model.train.errors import TrainError
from model.train.groups import parameter_groups
from model.train.loop import train
from model.train.optimizers import make_optimizers
from model.train.record import read_metrics
from model.train.resume import check_same_run, write_config
from tests.model.clip_sets import tiny_config
from tests.model.conftest import SMALL, randomise

SHORT = {"schedule__epochs": 1, "data__val": [], "mixing__probability": 1, "mixing__group": 4}
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def tf32_as_before() -> Iterator[None]:
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn


def losses(clips: Path, output: Path, **changes: Any) -> list[float]:
    train(tiny_config(clips, output, **{**SHORT, **changes}))
    return [line["loss"] for line in read_metrics(output / "metrics.jsonl")]


@pytest.mark.usefixtures("tf32_as_before")
def test_fp32_is_fp32_unless_tf32_is_asked_for(clip_set: Path, tmp_path: Path) -> None:
    torch.backends.cudnn.allow_tf32 = True
    losses(clip_set, tmp_path / "a")
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    losses(clip_set, tmp_path / "b", compute__tf32=True)
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(("instructions", "precision"), [("avx512_bf16", "bf16"), ("avx2", "fp32")])
def test_precision_is_what_the_processor_multiplies(
    clip_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    instructions: str,
    precision: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    own = losses(clip_set, tmp_path / "a", compute__precision="auto")
    assert own == losses(clip_set, tmp_path / "b", compute__precision=precision)
    kept = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert kept["compute"]["precision"] == precision
    # Elsewhere it might be another: then the run does not go on as if nothing were.
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    again = tiny_config(clip_set, tmp_path / "a", **SHORT, compute__precision="auto")
    if precision == "fp32":
        train(again)
    else:
        with pytest.raises(TrainError, match=r"compute\.precision 'bf16', now it is 'fp32'"):
            train(again)


def test_a_run_from_before_a_key_was_known_goes_on(clip_set: Path, tmp_path: Path) -> None:
    config = tiny_config(clip_set, tmp_path / "run")
    write_config(config)
    file = tmp_path / "run" / "config.yaml"
    before = yaml.safe_load(file.read_text())
    for key in ("tf32", "channels_last"):
        del before["compute"][key]
    file.write_text(yaml.safe_dump(before))
    check_same_run(config)
    layout = tiny_config(clip_set, tmp_path / "run", compute__channels_last=True)
    check_same_run(layout)  # another order in memory, the same numbers
    other = tiny_config(clip_set, tmp_path / "run", compute__tf32=True)
    with pytest.raises(TrainError, match=r"compute\.tf32 False, now it is True"):
        check_same_run(other)


def test_the_order_of_the_filters_in_memory_changes_nothing_but_rounding(
    clip_set: Path, tmp_path: Path
) -> None:
    plain = losses(clip_set, tmp_path / "a")
    assert losses(clip_set, tmp_path / "b", compute__channels_last=True) == pytest.approx(
        plain, rel=1e-5
    )


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_the_fused_optimiser_is_adamw(device: str) -> None:
    """Against the formula of the paper, written out, over three updates with changing rates."""
    net = build_xclip(SMALL, seed=0)
    randomise(net)
    net.to(device)
    config = OptimConfig(lr=1e-3, weight_decay=0.1, betas=(0.9, 0.98))
    groups = parameter_groups(net, config)
    (optimizer,) = make_optimizers(groups, config)
    decay = {id(p): g.weight_decay for g in groups for p in g.parameters.values()}
    rates = {id(p): g.lr_factor for g in groups for p in g.parameters.values()}
    wanted = {id(p): p.detach().double() for p in net.parameters()}
    moments = {id(p): [torch.zeros_like(p).double() for _ in "mv"] for p in net.parameters()}
    generator = torch.Generator().manual_seed(2)
    for step, lr in enumerate((1e-3, 5e-4, 2e-4), start=1):
        for options in optimizer.param_groups:
            options["lr"] = lr * options["lr_factor"]
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator).to(device)
            grad, rate, (m, v) = p.grad.double(), lr * rates[id(p)], moments[id(p)]
            m.mul_(0.9).add_(0.1 * grad)
            v.mul_(0.98).add_(0.02 * grad**2)
            scaled = (m / (1 - 0.9**step)) / ((v / (1 - 0.98**step)).sqrt() + config.eps)
            wanted[id(p)] = wanted[id(p)] * (1 - rate * decay[id(p)]) - rate * scaled
        optimizer.step()
    for p in net.parameters():
        assert torch.allclose(p.detach().double(), wanted[id(p)], rtol=1e-5, atol=1e-6)


class _Early(DevicePrefetch):
    """As on a GPU, in order and number, with nothing to copy."""

    seen: ClassVar[Counter[str]] = Counter()
    ahead = True

    def begin(self, batch: Batch) -> Batch:
        self.seen["begun"] += 1
        return batch

    def wait(self, batch: Batch) -> None:
        assert self.seen["begun"] >= self.seen["waited"] + 1
        self.seen["waited"] += 1


def test_batches_that_go_up_early_are_the_same_batches(
    clip_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"batch__per_process": 4, "data__workers": 1, "schedule__epochs": 2}
    plain = losses(clip_set, tmp_path / "a", **changes)
    monkeypatch.setattr(update, "DevicePrefetch", _Early)
    monkeypatch.setattr(_Early, "seen", Counter())
    assert losses(clip_set, tmp_path / "b", **changes) == plain
    assert _Early.seen == {"begun": 12, "waited": 12}


def test_on_the_processor_nothing_goes_up() -> None:
    frames = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    number = torch.zeros(1, dtype=torch.int64)
    batch = Batch(frames, number, number, number, ())
    upload = DevicePrefetch(torch.device("cpu"))
    assert not upload.ahead
    assert upload.begin(batch) is batch
    upload.wait(batch)


@CUDA
@pytest.mark.usefixtures("tf32_as_before")
def test_an_update_on_a_gpu_waits_once(clip_set: Path, tmp_path: Path) -> None:
    """The whole run under torch's own watch for hidden waits; the reading of the loss is one."""
    allow_tf32(False)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="called a synchronizing CUDA operation") as waits:
            losses(clip_set, tmp_path / "a", compute__device="cuda", text="frozen")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = Counter(Path(wait.filename).name for wait in waits)
    assert places["update.py"] == 3
    assert not places["objective.py"] + places["mixing.py"] + places["scorer.py"]
