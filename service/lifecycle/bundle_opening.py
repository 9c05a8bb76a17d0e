"""Open the bundle that the settings name, and a runtime of files that are known to be whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from export.bundle import Bundle, open_bundle
from export.runtime import Runtime, RuntimeOptions, open_runtime
from service.settings import Settings


def served_bundle(settings: Settings) -> Bundle:
    """Open what the settings name now, by its manifest; its files are not checked yet.

    A link is followed once: when it is turned to another bundle, what is open stays whole.
    """
    return open_bundle(settings.bundle.resolve(), check_files=False)


def checked_runtime(bundle: Bundle, settings: Settings) -> Runtime:
    """Open the runtime, and return it once every file that it reads is what was exported.

    Hashing weights takes as long as loading them: both go on at once. What outlives the process
    is made of them only after that.
    """
    # The fastest may be any: then every file is one that may be read.
    asked = settings.precision or bundle.manifest.default_precision
    precision = None if asked == "auto" else asked
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
    for name in bundle.manifest.labels:
        bundle.label_set(name)  # here, not where the engine needs them: on the event loop
    return runtime


def runtime_options(settings: Settings, checked: Callable[[], object]) -> RuntimeOptions:
    """Gather what the settings allow a runtime; `checked` as in RuntimeOptions."""
    cache = settings.cache_folder
    return RuntimeOptions(
        threads=settings.threads,
        gpu_memory_bytes=settings.gpu_memory_bytes,
        engine_cache=settings.engine_cache,
        cuda_graphs=settings.cuda_graphs,
        weight_cache=settings.weight_cache,
        choices=cache / "fastest" if cache else None,
        checked=checked,
    )
