"""Read the tensors of a `.pth` file and execute nothing else that is in it."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

# What a pickle of tensors needs; every other name in the file becomes an inert object.
_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}


class Inert(dict[Any, Any]):
    """Stands for an object of a class that is not loaded: takes any state, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Drop the state."""

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Call nothing."""
        return Inert()

    def append(self, item: Any) -> None:
        """Drop the item."""

    def extend(self, items: Any) -> None:
        """Drop the items."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "torch" and name.endswith("Storage") and hasattr(torch, name):
            return getattr(torch, name)
        return Inert


def _load(file: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


_RESTRICTED = SimpleNamespace(
    __name__="model.unpickle",
    Unpickler=_Unpickler,
    load=_load,
    UnpicklingError=pickle.UnpicklingError,
)


def load_tensors(path: Path) -> Mapping[str, Any]:
    """The content of a `.pth` file; classes other than tensors come back as inert objects.

    Raises pickle.UnpicklingError, RuntimeError, EOFError or ValueError for what is no such file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # The official training code pickles its config object beside the weights.
        content = torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=_RESTRICTED
        )
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a dict of tensors")
    return content


def state_dict_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the network: under `model`, `state_dict`, or at the top; no `module.`."""
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    return {k.removeprefix("module."): v for k, v in tensors.items()}
