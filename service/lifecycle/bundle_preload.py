"""The bundle that a server starts with, opened from before the application is imported.

Hashing its files and loading its network hardly need Python, importing the application needs little
else: on two processors they go on side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from export.bundle import Bundle, open_bundle
from export.runtime import Runtime, RuntimeOptions, open_runtime
from service.settings import Settings


class BundlePreload:
    """Begins at once, in a thread. What goes wrong is raised where `bundle` or `runtime` is asked.

    The runtime belongs to who asks for it; it comes after every file that it is made of has been
    found to be what was exported.
    """

    def __init__(self, settings: Settings) -> None:
        threads = ThreadPoolExecutor(1, thread_name_prefix="preload")
        self.bundle: Future[Bundle] = threads.submit(served_bundle, settings)
        self.runtime: Future[Runtime] = threads.submit(self._open, settings)
        threads.shutdown(wait=False)  # the thread ends with its work

    def _open(self, settings: Settings) -> Runtime:
        return checked_runtime(self.bundle.result(), settings)


def served_bundle(settings: Settings) -> Bundle:
    """What the settings name now, by its manifest; its files are not checked yet.

    A link is followed once: when it is turned to another bundle, what is open stays whole.
    """
    return open_bundle(settings.bundle.resolve(), check_files=False)


def checked_runtime(bundle: Bundle, settings: Settings) -> Runtime:
    """The runtime, once every file that it reads has been found to be what was exported.

    Hashing weights takes as long as loading them: both go on at once. What outlives the process
    is made of them only after that.
    """
    precision = settings.precision or bundle.manifest.default_precision
    bundle.check_files(precision, "form")
    with ThreadPoolExecutor(2, thread_name_prefix="checking") as threads:
        checking = threads.submit(bundle.check_files, precision, "weights")
        threads.submit(bundle.tokenizer)
        try:
            options = runtime_options(settings, checking.result)
            runtime = open_runtime(bundle, settings.runtime, settings.precision, options)
        except Exception:
            checking.result()  # a file that is not what was exported explains it better
            raise
        try:
            checking.result()
        except BaseException:
            runtime.close()
            raise
    return runtime


def runtime_options(settings: Settings, checked: Callable[[], object]) -> RuntimeOptions:
    """What the settings allow a runtime; `checked` as in RuntimeOptions."""
    return RuntimeOptions(
        threads=settings.threads,
        gpu_memory_bytes=settings.gpu_memory_bytes,
        engine_cache=settings.engine_cache,
        cuda_graphs=settings.cuda_graphs,
        weight_cache=settings.weight_cache,
        checked=checked,
    )
