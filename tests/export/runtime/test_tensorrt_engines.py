"""TensorRT's runtime on stand-ins: which engine is chosen, what is said where none fits, memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export.bundle import Bundle, EngineInfo
from export.runtime import DeviceMemoryError, RuntimeOptions, RuntimeUnavailableError, open_runtime
from export.runtime.selection import ON_CPU
from tests.export.runtime.gpu_standins import ARCHITECTURE, TENSORRT_VERSION, Cuda, install

UP, DOWN = 1, 2
Changed = Callable[..., Bundle]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """A card and TensorRT; ONNX Runtime is the processor's."""
    return install(monkeypatch, runtime=False)


@pytest.fixture
def changed(engines_bundle: Bundle) -> Changed:
    """The bundle with engines, as if they had been built elsewhere."""

    def make(**changes: str) -> Bundle:
        engines = tuple(e.model_copy(update=changes) for e in engines_bundle.manifest.engines)
        manifest = engines_bundle.manifest.model_copy(update={"engines": engines})
        return replace(engines_bundle, manifest=manifest)

    return make


def refusal(bundle: Bundle) -> str:
    with pytest.raises(RuntimeUnavailableError) as caught:
        open_runtime(bundle, "tensorrt")
    return str(caught.value)


def test_frames_go_up_once_and_features_stay(cuda: Cuda, engines_bundle: Bundle) -> None:
    runtime = open_runtime(engines_bundle, "tensorrt", "fp16")
    spec = engines_bundle.manifest.inputs
    clips = np.zeros((2, spec.num_frames, spec.image_size, spec.image_size, 3), np.uint8)
    text = np.ones((2, 3, engines_bundle.manifest.text_dim), np.float32)
    cuda.copies.clear()
    features = runtime.encode_video(clips)
    logits = runtime.score(features, text)
    assert cuda.copies == [(UP, clips.nbytes), (UP, text.nbytes), (DOWN, logits.nbytes)]
    del features
    gc.collect()
    runtime.close()
    assert not cuda.device
    assert not cuda.pinned


def test_memory_that_runs_out_is_told_apart_and_given_back(
    cuda: Cuda, engines_bundle: Bundle
) -> None:
    runtime = open_runtime(engines_bundle, "tensorrt")
    cuda.capacity = 100
    with pytest.raises(DeviceMemoryError, match=r"for token_ids \(20, 9\); lower the batch"):
        runtime.encode_text(np.ones((20, 9), np.int64))
    cuda.capacity = 1 << 30
    assert runtime.encode_text(np.ones((20, 9), np.int64)).shape[0] == 20


def test_engines_take_from_the_memory_that_is_allowed(cuda: Cuda, engines_bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"engine needs .* raise XCLIP_GPU_MEMORY"):
        open_runtime(engines_bundle, "tensorrt", options=RuntimeOptions(gpu_memory_bytes=2000))
    plans = sum(engines_bundle.file(e.file).stat().st_size for e in engines_bundle.manifest.engines)
    open_runtime(
        engines_bundle, "tensorrt", options=RuntimeOptions(gpu_memory_bytes=plans + 1_000_000)
    ).warm_up()


def test_sizes_beyond_the_profile_are_a_callers_mistake(cuda: Cuda, engines_bundle: Bundle) -> None:
    runtime = open_runtime(engines_bundle, "tensorrt")
    head = runtime._graphs["score_head"]  # type: ignore[attr-defined]
    dim = engines_bundle.manifest.text_dim
    inputs = {
        "video": np.ones((65, dim), np.float32),
        "context": np.ones((65, 4, dim), np.float32),
        "text": np.ones((65, 1, dim), np.float32),
    }
    with pytest.raises(ValueError, match=r"video \(65, 64\) is outside of what the engine"):
        head(inputs)


def test_engines_of_another_card_or_version_name_the_difference(
    cuda: Cuda, changed: Changed
) -> None:
    assert (
        f"for sm_80 with TensorRT {TENSORRT_VERSION}; this is sm_90 with TensorRT "
        f"{TENSORRT_VERSION}; build engines on this machine"
    ) in refusal(changed(gpu_architecture="sm_80"))
    assert f"for {ARCHITECTURE} with TensorRT 10.9; this is" in refusal(
        changed(tensorrt_version="10.9")
    )


def test_auto_goes_on_where_the_engines_do_not_fit(cuda: Cuda, changed: Changed) -> None:
    runtime = open_runtime(changed(gpu_architecture="sm_80"), options=RuntimeOptions(threads=1))
    assert runtime.name in ON_CPU  # which of them hangs on the moment
    assert "this is sm_90" in runtime.selection[0]


def test_a_plan_that_does_not_load_says_how_to_rebuild(
    cuda: Cuda, engines_bundle: Bundle, tmp_path: Path
) -> None:
    engines = tuple(
        EngineInfo(**(e.model_dump() | {"file": "torn.engine"}))
        for e in engines_bundle.manifest.engines
    )
    (tmp_path / "torn.engine").write_bytes(b"torn")
    manifest = engines_bundle.manifest.model_copy(update={"engines": engines})
    bundle = replace(engines_bundle, path=tmp_path, manifest=manifest)
    assert "torn.engine does not load here; build engines" in refusal(bundle)


def test_no_gpu_and_no_engines_each_say_so(
    cuda: Cuda, engines_bundle: Bundle, tiny_bundle: Bundle
) -> None:
    assert "holds no engines; build engines on this machine" in refusal(tiny_bundle)
    cuda.found = (SimpleNamespace(value=100, name="cudaErrorNoDevice"), None)
    assert "no NVIDIA GPU can be seen" in refusal(engines_bundle)
