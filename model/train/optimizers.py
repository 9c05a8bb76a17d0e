"""Groups of parameters to torch's optimisers."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from model.train.config import OptimConfig
from model.train.groups import Group
from model.train.muon import Fp32Muon

TABLES = ("positional_embedding", "token_embedding.weight")


def make_optimizers(groups: list[Group], config: OptimConfig) -> tuple[Optimizer, ...]:
    """Make AdamW over all groups; or Muon over their matrices and AdamW over the rest.

    Every group of an optimiser carries its `lr_factor`, from which each update sets its rate.
    """
    if config.name == "adamw":
        return (
            _adamw([_options(group, list(group.parameters.values())) for group in groups], config),
        )
    matrices, rest = (
        [
            _options(group, [p for n, p in group.parameters.items() if _is_matrix(n, p) == matrix])
            for group in groups
        ]
        for matrix in (True, False)
    )
    # Scaled to the size of AdamW's updates, so that one learning rate serves both.
    groups_of_matrices = [group for group in matrices if group["params"]]
    on_cpu = groups_of_matrices[0]["params"][0].device.type == "cpu"
    muon = (Fp32Muon if on_cpu else Muon)(
        groups_of_matrices,
        lr=config.lr,
        adjust_lr_fn="match_rms_adamw",
    )
    return muon, _adamw([group for group in rest if group["params"]], config)


def _adamw(groups: list[dict[str, Any]], config: OptimConfig) -> AdamW:
    """Make AdamW, in one fused kernel."""
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether it multiplies vectors: tables of positions and tokens have two axes too."""
    return parameter.ndim == 2 and not name.endswith(TABLES)


def _options(group: Group, parameters: list[nn.Parameter]) -> dict[str, Any]:
    return {
        "params": parameters,
        "lr_factor": group.lr_factor,
        "weight_decay": group.weight_decay,
    }
