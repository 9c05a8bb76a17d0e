"""ONNX Runtime on a GPU, on stand-ins: what is said where it fails, what goes up and down."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export.bundle import Bundle, BundleError
from export.runtime import DeviceMemoryError, RuntimeOptions, RuntimeUnavailableError, open_runtime
from export.runtime.selection import ON_CPU
from tests.export.runtime.gpu_standins import CPU, CUDA, STREAM, TRT, Cuda, OnnxRuntimeGpu, install

UP, DOWN = 1, 2


class InvalidGraph(Exception):
    """As the library calls it."""


Installed = Callable[..., OnnxRuntimeGpu]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return install(monkeypatch)


@pytest.fixture
def library(cuda: Cuda) -> OnnxRuntimeGpu:
    return sys.modules["onnxruntime"]  # type: ignore[return-value]


def frames(bundle: Bundle, count: int = 2) -> np.ndarray:
    spec = bundle.manifest.inputs
    return np.zeros((count, spec.num_frames, spec.image_size, spec.image_size, 3), np.uint8)


def refusal(bundle: Bundle, name: str = "onnxruntime-cuda") -> str:
    with pytest.raises(RuntimeUnavailableError) as caught:
        open_runtime(bundle, name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_cpu_package_says_which_one_to_install(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle
) -> None:
    library.providers = (CPU,)
    assert "install xclip-serve[gpu] in place of xclip-serve[cpu]" in refusal(tiny_bundle)


def test_missing_bindings_are_named(
    cuda: Cuda, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "bindings are not installed" in refusal(tiny_bundle)


@pytest.mark.parametrize(
    ("status", "driver", "words"),
    [
        ((35, "cudaErrorInsufficientDriver"), 0, "no NVIDIA driver is installed"),
        (
            (35, "cudaErrorInsufficientDriver"),
            12040,
            "driver is too old: it knows CUDA 12.4, the libraries here are made for 13.5",
        ),
        ((100, "cudaErrorNoDevice"), 13050, "no NVIDIA GPU can be seen"),
        ((802, "cudaErrorSystemNotReady"), 13050, "does not answer (cudaErrorSystemNotReady)"),
        ((0, "cudaSuccess"), 13050, "no NVIDIA GPU can be seen"),
    ],
)
def test_what_is_wrong_with_driver_or_card_is_said(
    cuda: Cuda, tiny_bundle: Bundle, status: tuple[int, str], driver: int, words: str
) -> None:
    value, name = status
    cuda.found, cuda.driver = (SimpleNamespace(value=value, name=name), None), driver
    for runtime in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        assert words in refusal(tiny_bundle, runtime)


def test_libraries_that_do_not_load_are_named_by_the_loader(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    library.ends = {"got": [CPU]}
    message = refusal(tiny_bundle)
    assert "did not start" in message
    assert "cannot open shared object file" in message
    assert "onnxruntime-gpu[cuda,cudnn]" in message
    assert not capsys.readouterr().out


def test_a_missing_cudnn_is_said_in_one_line(library: OnnxRuntimeGpu, tiny_bundle: Bundle) -> None:
    library.ends = {"start": RuntimeError("Failed to load library\nlibcudnn.so.9: cannot open")}
    assert "libcudnn.so.9: cannot open" in refusal(tiny_bundle)


def test_too_little_memory_to_load_says_so_and_auto_goes_on(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle
) -> None:
    library.ends = {"start": RuntimeError("CUDA failure 2: out of memory")}
    assert "too little free memory to load video_encoder.onnx" in refusal(tiny_bundle)
    runtime = open_runtime(tiny_bundle, options=RuntimeOptions(threads=1))
    assert runtime.name in ON_CPU  # which of them hangs on the moment
    assert "too little free memory" in "\n".join(runtime.selection)
    assert [line.split(":")[0] for line in runtime.selection][:3] == [
        "tensorrt",
        "onnxruntime-tensorrt",
        "onnxruntime-cuda",
    ]


def test_a_broken_graph_is_the_bundles_fault_not_the_gpus(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle
) -> None:
    library.ends = {"start": InvalidGraph("no such operator")}
    with pytest.raises(BundleError, match=r"video_encoder\.onnx cannot be run"):
        open_runtime(tiny_bundle, "onnxruntime-cuda")


@pytest.mark.parametrize(
    "message", ["CUDA error: out of memory", "Failed to allocate memory for requested buffer"]
)
def test_a_batch_that_does_not_fit_is_told_apart(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle, message: str
) -> None:
    runtime = open_runtime(tiny_bundle, "onnxruntime-cuda")
    library.ends = {"run": RuntimeError(message)}
    with pytest.raises(DeviceMemoryError, match=r"frames \(2, 4, 32, 32, 3\); lower the batch"):
        runtime.encode_video(frames(tiny_bundle))
    library.ends = {}
    assert runtime.encode_video(frames(tiny_bundle))["video"].shape[0] == 2


def test_another_failure_at_run_time_keeps_its_own_words(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle
) -> None:
    library.ends = {"run": RuntimeError("cublas failed")}
    with pytest.raises(RuntimeError, match="cublas failed"):
        open_runtime(tiny_bundle, "onnxruntime-cuda").encode_video(frames(tiny_bundle))


def test_frames_go_up_once_and_nothing_comes_down_before_the_logits(
    cuda: Cuda, tiny_bundle: Bundle
) -> None:
    runtime = open_runtime(tiny_bundle, "onnxruntime-cuda")
    text = runtime.encode_text(np.ones((3, 4), np.int64))
    cuda.copies.clear()
    clips = frames(tiny_bundle)
    features = runtime.encode_video(clips)
    assert cuda.copies == [(UP, clips.nbytes)]
    cuda.copies.clear()
    logits = runtime.score(features, np.broadcast_to(text, (2, *text.shape)))
    assert cuda.copies == [(UP, 2 * text.nbytes), (DOWN, logits.nbytes)]
    cuda.copies.clear()
    for _ in range(2):
        assert features["video"].shape == features["context"][:, 0].shape
    assert [way for way, _ in cuda.copies] == [DOWN, DOWN], "looked at twice, copied once"


def test_features_kept_by_the_host_go_up_once_for_any_number_of_labels(
    cuda: Cuda, tiny_bundle: Bundle
) -> None:
    runtime = open_runtime(tiny_bundle, "onnxruntime-cuda")
    kept = dict(runtime.encode_video(frames(tiny_bundle, 1)))
    text = np.ones((1, 3000, tiny_bundle.manifest.text_dim), np.float32)
    cuda.copies.clear()
    runtime.score(kept, text)
    assert sum(nbytes for way, nbytes in cuda.copies if way == UP) == text.nbytes + sum(
        value.nbytes for value in kept.values()
    )


def test_memory_is_given_back_and_pinned_memory_ends_with_the_runtime(
    cuda: Cuda, tiny_bundle: Bundle
) -> None:
    runtime = open_runtime(tiny_bundle, "onnxruntime-cuda")
    features = runtime.encode_video(frames(tiny_bundle))
    runtime.score(features, np.ones((2, 5, tiny_bundle.manifest.text_dim), np.float32))
    del features
    gc.collect()
    runtime.close()
    assert not cuda.device
    assert not cuda.pinned


def test_fp32_means_fp32_and_all_runs_on_one_stream(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle
) -> None:
    open_runtime(tiny_bundle, "onnxruntime-cuda", options=RuntimeOptions(gpu_memory_bytes=800))
    (name, [(provider, options)]), *_ = library.asked
    assert (name, provider) == ("video_encoder.onnx", CUDA)
    assert options["use_tf32"] == "0"
    assert options["user_compute_stream"] == str(STREAM)
    assert options["gpu_mem_limit"] == "700"
    [(provider, _, _, pool)] = library.pools
    assert (provider, pool["max_mem"]) == (CUDA, 700)


def test_inputs_beyond_what_is_allowed_are_refused(cuda: Cuda, tiny_bundle: Bundle) -> None:
    runtime = open_runtime(
        tiny_bundle, "onnxruntime-cuda", options=RuntimeOptions(gpu_memory_bytes=8 * 20_000)
    )
    with pytest.raises(DeviceMemoryError, match="lower the batch"):
        runtime.encode_video(frames(tiny_bundle, 4))
    assert len(runtime.encode_video(frames(tiny_bundle, 1))["video"]) == 1


def test_the_tensorrt_provider_gets_all_sizes_at_once_and_keeps_its_engines(
    library: OnnxRuntimeGpu, engines_bundle: Bundle, tmp_path: Path
) -> None:
    open_runtime(
        engines_bundle,
        "onnxruntime-tensorrt",
        "fp16",
        options=RuntimeOptions(engine_cache=tmp_path),
    )
    (name, [(first, options), (second, _)]), (_, [(_, text), _]), _ = library.asked
    assert (name, first, second) == ("video_encoder.fp16.onnx", TRT, CUDA)
    assert options["trt_fp16_enable"] == "1"
    assert text["trt_fp16_enable"] == "0"
    assert options["trt_profile_min_shapes"] == "frames:1x4x32x32x3"
    assert options["trt_profile_opt_shapes"] == "frames:8x4x32x32x3"
    assert options["trt_profile_max_shapes"] == "frames:64x4x32x32x3"
    assert text["trt_profile_max_shapes"] == "token_ids:256x48"
    folder = tmp_path / engines_bundle.hash[:16] / "fp16"
    assert options["trt_engine_cache_path"] == str(folder)
    assert folder.is_dir()
    library.asked.clear()
    open_runtime(engines_bundle, "onnxruntime-tensorrt", "fp16")
    assert library.asked[0][1][0][1]["trt_engine_cache_enable"] == "0"


def test_cuda_runs_the_graph_whose_attention_is_fused(
    library: OnnxRuntimeGpu, engines_bundle: Bundle
) -> None:
    runtime = open_runtime(engines_bundle, "onnxruntime-cuda", "fp16")
    assert library.asked[0][0] == "video_encoder.fp16.fused.onnx"
    assert runtime.precision == "fp16"


def test_single_clips_are_replayed_and_batches_are_not(
    library: OnnxRuntimeGpu, tiny_bundle: Bundle
) -> None:
    plain = open_runtime(tiny_bundle, "onnxruntime-cuda")
    runtime = open_runtime(
        tiny_bundle, "onnxruntime-cuda", options=RuntimeOptions(cuda_graphs=True)
    )
    options = {name: providers[-1][1] for name, providers in library.asked[3:]}
    assert options["video_encoder.onnx"]["enable_cuda_graph"] == "1"
    assert "enable_cuda_graph" not in options["score_head.onnx"]
    drawn = np.random.default_rng(0)
    clips = [drawn.integers(0, 256, frames(tiny_bundle, n).shape, np.uint8) for n in (1, 2, 1, 1)]
    # All are asked for before any is looked at: a later clip must not write over an earlier one.
    answers = [runtime.encode_video(clip) for clip in clips]
    for clip, answer in zip(clips, answers, strict=True):
        expected = plain.encode_video(clip)
        for name in expected:
            np.testing.assert_allclose(answer[name], expected[name], atol=1e-5)
