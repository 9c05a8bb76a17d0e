"""The runtimes that serve, on bundles that are exported on this machine in this run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.gpu_check.contestant import Answers
from benchmarks.gpu_check.outcomes import NotRun, one_line, say

Value = TypeVar("Value")
# Made first, in seconds: what does not work with it is not tried with the large ones.
PROBE = "tiny"


class RuntimeNetwork:
    """A bundle on a runtime, through the interface that the service uses."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def video(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames uint8 (B,T,H,W,3) to vectors (B,D); the context stays where it is."""
        return np.asarray(self._runtime.encode_video(frames)["video"])

    def answers(self, frames: np.ndarray, token_ids: np.ndarray) -> Answers:
        """Score all clips in one batch against all texts."""
        features = self._runtime.encode_video(frames)
        text = self._runtime.encode_text(token_ids)
        logits = self._runtime.score(features, np.broadcast_to(text, (len(frames), *text.shape)))
        return Answers(np.asarray(features["video"]), logits)

    def close(self) -> None:
        """Close the runtime."""
        self._runtime.close()


class Bundles:
    """Bundles of the random networks, each made once, in every precision that can be made here."""

    def __init__(self, precisions: Sequence[str], *, engines: bool) -> None:
        self._wanted, self._engines_wanted = tuple(precisions), engines
        self._made: dict[str, Callable[[], Any]] = {}
        self._bad_engines: dict[str, Exception] = {}

    def of(self, variant: str) -> Any:
        """Return the variant's bundle, or raise again what went wrong when it was made."""
        missing = self.missing
        if variant not in self._made:
            self._made[variant] = _kept(lambda: self._make(variant, missing))
        return self._made[variant]()

    def path(self, variant: str) -> Path:
        """Return where the variant's bundle lies."""
        path: Path = self.of(variant).path
        return path

    def open(self, variant: str, runtime: str, precision: str) -> RuntimeNetwork:
        """Open the variant on a runtime; raise NotRun with the reason of whoever refuses."""
        if variant != PROBE:
            self._open(PROBE, runtime, precision).close()
        return self._open(variant, runtime, precision)

    @cached_property
    def missing(self) -> dict[str, str]:
        """The precisions that cannot be made here, and why."""
        from export.errors import ExportError

        refusals = (ExportError, ValueError)
        try:
            all_of_them = self._exported(PROBE, PROBE, self._wanted)
        except refusals:
            reasons = {}
            for precision in self._wanted:
                try:
                    _export(PROBE, f"{PROBE}-{precision}", (precision,))
                except refusals as error:
                    reasons[precision] = one_line(error)
            return reasons
        self._made[PROBE] = lambda: all_of_them
        return {}

    @cached_property
    def no_engines(self) -> str:
        """Why no TensorRT engines are built; empty where they are."""
        from export.engines import find_tensorrt
        from export.errors import ExportError

        if not self._engines_wanted:
            return "engines are built for an NVIDIA GPU"
        try:
            find_tensorrt()
        except ExportError as error:
            return one_line(error)
        return ""

    def _open(self, variant: str, runtime: str, precision: str) -> RuntimeNetwork:
        from export.runtime import RuntimeUnavailableError, open_build

        if precision in self.missing:
            raise NotRun(self.missing[precision])
        if runtime == "tensorrt" and self.no_engines:
            raise NotRun(self.no_engines)
        bundle = self.of(variant)
        if runtime == "tensorrt" and variant in self._bad_engines:
            raise self._bad_engines[variant]
        fitting = [
            build
            for build in bundle.manifest.precisions
            if build.precision == precision and build.runs_on(runtime)
        ]
        if not fitting:
            raise NotRun(f"the bundle holds no {precision} for {runtime}")
        try:
            return RuntimeNetwork(open_build(bundle, fitting[0], runtime))
        except RuntimeUnavailableError as error:
            raise NotRun(one_line(error)) from error

    def _make(self, variant: str, missing: dict[str, str]) -> Any:
        possible = tuple(p for p in self._wanted if p not in missing)
        if not possible:
            raise NotRun("; ".join(f"{p}: {why}" for p, why in missing.items()))
        return self._exported(variant, variant, possible)

    def _exported(self, variant: str, folder: str, precisions: tuple[str, ...]) -> Any:
        """Export with engines; where only they go wrong, without, and note their failure."""
        from export.errors import ExportError

        if self.no_engines:
            return _export(variant, folder, precisions)
        try:
            return _export(variant, folder, precisions, engines=True)
        except ExportError as error:
            bundle = _export(variant, folder, precisions)
            self._bad_engines[variant] = error
            return bundle


def _export(
    variant: str, folder: str, precisions: tuple[str, ...], *, engines: bool = False
) -> Any:
    """Make a bundle of the variant in `build/`; its distance from torch is parity's to say."""
    from benchmarks.lib.bundles import FOLDER, random_checkpoint
    from export.build import BundleOptions, make_bundle
    from model.network.config import VARIANTS
    from model.progress import Steps

    say(f"exporting {variant} in {', '.join(precisions)}{' with engines' if engines else ''}")
    options = BundleOptions(
        precisions=precisions,  # type: ignore[arg-type]
        tensorrt=engines,
        overwrite=True,
        force=True,
    )
    checkpoint = random_checkpoint(variant, VARIANTS[variant])
    return make_bundle(checkpoint, FOLDER / "gpu-check" / folder, options, Steps())


def _kept(make: Callable[[], Value]) -> Callable[[], Value]:
    """Gives what `make` gives or raises, and calls it once, now."""
    try:
        value = make()
    except Exception as error:
        failure = error

        def again() -> Value:
            raise failure

        return again
    return lambda: value
