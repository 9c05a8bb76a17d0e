"""Which runtime runs a bundle here, and why not a better one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

from export.bundle import Bundle, BundleError, PrecisionBuild, open_bundle
from export.bundle.manifest import RuntimeName
from export.runtime.contract import Backend, Runtime, RuntimeOptions
from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError
from export.runtime.fake import FakeRuntime
from export.runtime.fastest import NOT_HERE, Choice, Choices, fastest
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


AUTO = "auto"
# Best first. On a GPU, where opening one may take minutes, `auto` takes the first that works; on a
# processor the fastest.
ON_GPU: dict[str, BackendMaker] = {
    "tensorrt": _tensorrt,
    "onnxruntime-tensorrt": _cuda_tensorrt,
    "onnxruntime-cuda": _cuda,
}
ON_CPU: dict[str, BackendMaker] = {"onnxruntime-cpu": _cpu, "openvino": _openvino}
BACKENDS = ON_GPU | ON_CPU


def open_runtime(
    bundle: Bundle | str | Path,
    runtime: str = AUTO,
    precision: str | None = None,
    options: RuntimeOptions | None = None,
) -> Runtime:
    """Open a bundle in a runtime.

    Args:
        bundle: An open bundle, or the path of its folder.
        runtime: A name, or `auto` for the best that works here: one of a GPU before those of a
            processor, of which the fastest is taken among those that the bundle was compared with
            torch on. `.selection` then says why.
        precision: `fp32`, `fp16`, `bf16` or `int8`; `auto` for the fastest; None is the bundle's
            first.
        options: What the runtime may use; None is what there is.

    Returns:
        The runtime, its graphs loaded; the caller closes it.

    Raises:
        RuntimeUnavailableError: The runtime cannot work here.
        BundleError: The bundle has no such precision, or a file of it is broken.
        ValueError: There is no runtime of this name.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    names, builds = _names(runtime), _builds(opened, precision)
    if runtime == "fake":
        return FakeRuntime(opened.manifest.inputs, dim=opened.manifest.text_dim)
    selection = _Selection(opened, builds, options or RuntimeOptions())
    question = (opened.hash, runtime, precision or opened.manifest.default_precision)
    chosen = selection.on_gpu([name for name in names if name in ON_GPU]) or selection.on_cpu(
        [name for name in names if name in ON_CPU], question
    )
    if chosen is None:
        raise RuntimeUnavailableError("; ".join(selection.reasons))
    chosen.selection = (*selection.reasons, f"{chosen.name}: taken")
    return chosen


class _Selection:
    """Tries the builds of a bundle; `reasons` has a line for each runtime that was considered."""

    def __init__(
        self, bundle: Bundle, builds: list[PrecisionBuild], options: RuntimeOptions
    ) -> None:
        self._bundle, self._builds, self._options = bundle, builds, options
        self.reasons: list[str] = []

    def on_gpu(self, names: list[str]) -> Runtime | None:
        """Take for each build the first runtime that works, and of these the fastest."""
        self._note_unfit(names)
        return self._fastest(
            runtime
            for build in self._builds
            for runtime in self._first((build, name) for name in names if build.runs_on(name))
        )

    def on_cpu(self, names: list[str], question: tuple[str, ...]) -> Runtime | None:
        """Take the fastest that was compared with torch; where none was, the first that works."""
        self._note_unfit(names)
        # Of two builds of one precision the bundle names the better one first.
        pairs = [(b, name) for b in self._builds for name in names if b.runs_on(name)]
        compared = [(build, name) for build, name in pairs if _was_compared(build, name)]
        others = [pair for pair in pairs if pair not in compared]
        fastest = self._known_fastest(compared, question)
        if fastest is None:
            return next(self._first(others), None)
        self.reasons += [
            f"{name}: {build.precision} was not compared with torch on it" for build, name in others
        ]
        return fastest

    def _known_fastest(
        self, pairs: list[tuple[PrecisionBuild, str]], question: tuple[str, ...]
    ) -> Runtime | None:
        """Take what was the fastest when it was measured here, or measure."""
        options = self._options
        if options.choices is None or len(pairs) < 2:
            return self._fastest(self._working(pairs))
        choices = Choices(options.choices, question, options.threads)
        if (known := choices.recall()) is not None:
            chosen = [(b, n) for b, n in pairs if (n, b.precision) == (known.name, known.precision)]
            for runtime in self._first(chosen):
                self.reasons += known.lines
                return runtime
        before = len(self.reasons)
        best = self._fastest(self._working(pairs))
        lines = self.reasons[before:]
        failed = any(NOT_HERE in line for line in lines)  # which may pass: nothing to keep
        if best is not None and len(lines) > 1 and not failed:
            try:
                options.checked()  # nothing outlives the process that was made of other files
            except BaseException:
                best.close()
                raise
            choices.keep(Choice(best.name, best.precision, tuple(lines)))
        return best

    def _fastest(self, contenders: Iterable[Runtime]) -> Runtime | None:
        runtime, lines = fastest(contenders, self._bundle.manifest.inputs)
        self.reasons += lines
        return runtime

    def _first(self, pairs: Iterable[tuple[PrecisionBuild, str]]) -> Iterator[Runtime]:
        """Yield the first that works, if any does."""
        for runtime in self._working(pairs):
            yield runtime
            return

    def _working(self, pairs: Iterable[tuple[PrecisionBuild, str]]) -> Iterator[Runtime]:
        """Open one after the other; why one does not work here is a reason."""
        for build, name in pairs:
            try:
                yield open_build(self._bundle, build, name, options=self._options)
            except (RuntimeUnavailableError, DeviceMemoryError) as error:
                self.reasons.append(f"{name}: {error}")

    def _note_unfit(self, names: list[str]) -> None:
        precisions = " or ".join(dict.fromkeys(build.precision for build in self._builds))
        self.reasons += [
            f"{name}: the bundle holds no {precisions} for it"
            for name in names
            if not any(build.runs_on(name) for build in self._builds)
        ]


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


def _was_compared(build: PrecisionBuild, name: str) -> bool:
    return any(parity.runtime == name and parity.passed for parity in build.parity)


def _names(runtime: str) -> tuple[str, ...]:
    if runtime == AUTO:
        return tuple(BACKENDS)
    if runtime not in get_args(RuntimeName):
        raise ValueError(
            f"unknown runtime {runtime!r}; choose auto, {', '.join(get_args(RuntimeName))}"
        )
    return (runtime,)


def _builds(bundle: Bundle, precision: str | None) -> list[PrecisionBuild]:
    every = bundle.manifest.precisions
    if precision == AUTO:
        return list(every)
    requested = precision or bundle.manifest.default_precision
    builds = [build for build in every if build.precision == requested]
    if not builds:
        have = ", ".join(sorted({build.precision for build in every}))
        raise BundleError(
            f"{bundle.path} holds no precision {requested!r}, only {have}; "
            f"export it with --precision {requested}"
        )
    return builds
