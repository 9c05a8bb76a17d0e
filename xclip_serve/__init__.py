"""The front door: ask a server, or classify in this process. Loads what is asked for, no torch.

from xclip_serve import Classifier, Client, AsyncClient
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.contract.answer import Classification, Prediction
    from xclip_serve.async_client import AsyncClient
    from xclip_serve.classifier import Classifier
    from xclip_serve.client import Client
    from xclip_serve.errors import ClassifyError

__all__ = ["AsyncClient", "Classification", "Classifier", "ClassifyError", "Client", "Prediction"]

_MODULES = {
    "AsyncClient": "xclip_serve.async_client",
    "Classification": "service.contract.answer",
    "Classifier": "xclip_serve.classifier",
    "ClassifyError": "xclip_serve.errors",
    "Client": "xclip_serve.client",
    "Prediction": "service.contract.answer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
