"""The runtimes: what runs a bundle. Needs no torch; loads a backend only when it is opened."""

from export.runtime.contract import Runtime, RuntimeOptions
from export.runtime.cpus import available_cpus
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError
from export.runtime.fake import FakeRuntime
from export.runtime.features import Features, Vectors, join_features, split_features
from export.runtime.selection import open_build, open_runtime

__all__ = [
    "DeviceMemoryError",
    "FakeRuntime",
    "Features",
    "Runtime",
    "RuntimeOptions",
    "RuntimeUnavailableError",
    "Vectors",
    "available_cpus",
    "join_features",
    "open_build",
    "open_runtime",
    "split_features",
]
