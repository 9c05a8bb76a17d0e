"""The runtimes: what runs a bundle. Needs no torch; loads a backend only when it is opened."""

from export.runtime.contract import Features, Runtime, Vectors
from export.runtime.cpus import available_cpus
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError
from export.runtime.fake import FakeRuntime
from export.runtime.selection import open_build, open_runtime

__all__ = [
    "DeviceMemoryError",
    "FakeRuntime",
    "Features",
    "Runtime",
    "RuntimeUnavailableError",
    "Vectors",
    "available_cpus",
    "open_build",
    "open_runtime",
]
