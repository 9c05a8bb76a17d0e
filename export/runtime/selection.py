"""Which runtime runs a bundle here, and why not a better one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from export.bundle import Bundle, BundleError, PrecisionBuild, open_bundle
from export.bundle.manifest import RuntimeName
from export.runtime.contract import Backend, Runtime, RuntimeOptions
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError
from export.runtime.fake import FakeRuntime
from export.runtime.graph_runtime import GraphRuntime

BackendMaker = Callable[[Bundle, PrecisionBuild, RuntimeOptions], Backend]


def _cpu(bundle: Bundle, build: PrecisionBuild, options: RuntimeOptions) -> Backend:
    from export.runtime.cpu import OnnxRuntimeCpu

    files = bundle.manifest.files
    return OnnxRuntimeCpu(options.threads, options.weight_cache, files, options.checked)


def _openvino(bundle: Bundle, build: PrecisionBuild, options: RuntimeOptions) -> Backend:
    from export.runtime.cpu_openvino import OpenVinoCpu

    return OpenVinoCpu(options.threads)


def _cuda(bundle: Bundle, build: PrecisionBuild, options: RuntimeOptions) -> Backend:
    from export.runtime.gpu.cuda import OnnxRuntimeCuda

    return OnnxRuntimeCuda(options)


def _cuda_tensorrt(bundle: Bundle, build: PrecisionBuild, options: RuntimeOptions) -> Backend:
    from export.runtime.gpu.cuda import OnnxRuntimeTensorRt

    return OnnxRuntimeTensorRt(bundle, options)


def _tensorrt(bundle: Bundle, build: PrecisionBuild, options: RuntimeOptions) -> Backend:
    from export.runtime.gpu.tensorrt_engines import TensorRt

    return TensorRt(bundle, build.precision, options)


# Best first: `auto` takes the first that works.
BACKENDS: dict[str, BackendMaker] = {
    "tensorrt": _tensorrt,
    "onnxruntime-tensorrt": _cuda_tensorrt,
    "onnxruntime-cuda": _cuda,
    "onnxruntime-cpu": _cpu,
    "openvino": _openvino,
}


def open_runtime(
    bundle: Bundle | str | Path,
    runtime: str = "auto",
    precision: str | None = None,
    options: RuntimeOptions | None = None,
) -> Runtime:
    """Open a bundle in a runtime.

    Args:
        bundle: An open bundle, or the path of its folder.
        runtime: A name, or `auto` for the best that works here; `.selection` then says why.
        precision: `fp32`, `fp16`, `bf16` or `int8`; None is the bundle's first.
        options: What the runtime may use; None is what there is.

    Returns:
        The runtime, its graphs loaded; the caller closes it.

    Raises:
        RuntimeUnavailableError: The runtime cannot work here.
        BundleError: The bundle has no such precision, or a file of it is broken.
        ValueError: There is no runtime of this name.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    names = _candidates(runtime)
    requested = precision or opened.manifest.default_precision
    builds = [build for build in opened.manifest.precisions if build.precision == requested]
    if not builds:
        have = ", ".join(sorted({build.precision for build in opened.manifest.precisions}))
        raise BundleError(
            f"{opened.path} holds no precision {requested!r}, only {have}; "
            f"export it with --precision {requested}"
        )
    if runtime == "fake":
        return FakeRuntime(opened.manifest.inputs, dim=opened.manifest.text_dim)
    reasons = [
        f"{name}: the bundle holds no {requested} for it"
        for name in names
        if not any(build.runs_on(name) for build in builds)
    ]
    # The bundle's own order first: of two builds of one precision it names the better one first.
    for build in builds:
        for name in filter(build.runs_on, names):
            try:
                return open_build(
                    opened, build, name, selection=(*reasons, f"{name}: taken"), options=options
                )
            except (RuntimeUnavailableError, DeviceMemoryError) as error:
                reasons.append(f"{name}: {error}")
    raise RuntimeUnavailableError("; ".join(reasons))


def open_build(
    bundle: Bundle,
    build: PrecisionBuild,
    name: str,
    selection: tuple[str, ...] = (),
    options: RuntimeOptions | None = None,
) -> Runtime:
    """Open one build of a bundle on one runtime; for what measures them one by one."""
    backend = BACKENDS[name](bundle, build, options or RuntimeOptions())
    try:
        return GraphRuntime(bundle, build, backend, selection)
    except BaseException:
        backend.close()
        raise


def _candidates(runtime: str) -> tuple[str, ...]:
    if runtime == "auto":
        return tuple(BACKENDS)
    if runtime not in get_args(RuntimeName):
        raise ValueError(
            f"unknown runtime {runtime!r}; choose auto, {', '.join(get_args(RuntimeName))}"
        )
    return (runtime,)
