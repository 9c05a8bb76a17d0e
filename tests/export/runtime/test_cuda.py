"""What is said where a GPU cannot be used, played with a stand-in for the GPU's own library."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from export.bundle import Bundle, BundleError
from export.runtime import DeviceMemoryError, RuntimeUnavailableError, open_runtime

CPU, CUDA, TRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class InvalidGraph(Exception):
    """As the library calls it."""


class Library:
    """As much of `onnxruntime` as the GPU runtime touches; `ends` is what happens at each step."""

    __version__ = "1.31.1"
    SessionOptions = SimpleNamespace

    def __init__(self, providers: tuple[str, ...] = (TRT, CUDA, CPU), **ends: Any) -> None:
        self.providers, self.ends = providers, ends
        self.asked: list[Any] = []
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=lambda array, device, index: array)
        for name in ("OrtAllocatorType", "OrtMemType", "OrtMemoryInfo", "OrtArenaCfg"):
            setattr(self, name, MagicMock())
        self.create_and_register_allocator = MagicMock()

    def get_available_providers(self) -> list[str]:
        return list(self.providers)

    def preload_dlls(self) -> None:
        pass

    def InferenceSession(self, file: str, options: Any, providers: Any) -> Any:
        self.asked.append(providers)
        if "start" in self.ends:
            raise self.ends["start"]
        got = self.ends.get("got", [name for name, _ in providers])
        return SimpleNamespace(
            get_providers=lambda: got, io_binding=Binding, run_with_iobinding=self._run
        )

    def _run(self, binding: Any) -> None:
        if "run" in self.ends:
            raise self.ends["run"]


class Binding:
    """Takes whatever is bound and gives nothing."""

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        pass

    def bind_output(self, name: str, device: str, index: int) -> None:
        pass

    def get_outputs(self) -> list[Any]:
        return []


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(library: Library) -> Library:
        monkeypatch.setitem(sys.modules, "onnxruntime", library)
        return library

    return put


def frames(bundle: Bundle) -> np.ndarray:
    spec = bundle.manifest.inputs
    return np.zeros((2, spec.num_frames, spec.image_size, spec.image_size, 3), np.uint8)


def test_a_cpu_package_says_which_one_to_install(install: Any, tiny_bundle: Bundle) -> None:
    install(Library(providers=(CPU,)))
    with pytest.raises(RuntimeUnavailableError, match=r"no CUDA.*install xclip-serve\[gpu\]"):
        open_runtime(tiny_bundle, "onnxruntime-cuda")


def test_libraries_that_do_not_load_are_noticed(install: Any, tiny_bundle: Bundle) -> None:
    install(Library(got=[CPU]))
    with pytest.raises(RuntimeUnavailableError, match=r"did not start; .*nvidia-smi.*cuDNN"):
        open_runtime(tiny_bundle, "onnxruntime-cuda")


def test_a_driver_that_is_too_old_is_said_in_one_line(install: Any, tiny_bundle: Bundle) -> None:
    install(Library(start=RuntimeError("CUDA failure 35: driver version is insufficient")))
    with pytest.raises(
        RuntimeUnavailableError, match=r"driver version is insufficient.*nvidia-smi"
    ):
        open_runtime(tiny_bundle, "onnxruntime-cuda")


def test_a_broken_graph_is_the_bundles_fault_not_the_gpus(
    install: Any, tiny_bundle: Bundle
) -> None:
    install(Library(start=InvalidGraph("no such operator")))
    with pytest.raises(BundleError, match=r"video_encoder\.onnx cannot be run"):
        open_runtime(tiny_bundle, "onnxruntime-cuda")


@pytest.mark.parametrize(
    "message", ["CUDA error: out of memory", "Failed to allocate memory for requested buffer"]
)
def test_a_batch_that_does_not_fit_is_told_apart(
    install: Any, tiny_bundle: Bundle, message: str
) -> None:
    install(Library(run=RuntimeError(message)))
    runtime = open_runtime(tiny_bundle, "onnxruntime-cuda")
    with pytest.raises(DeviceMemoryError, match=r"frames \(2, 4, 32, 32, 3\); lower the batch"):
        runtime.encode_video(frames(tiny_bundle))


def test_another_failure_at_run_time_keeps_its_own_words(install: Any, tiny_bundle: Bundle) -> None:
    install(Library(run=RuntimeError("cublas failed")))
    with pytest.raises(RuntimeError, match="cublas failed"):
        open_runtime(tiny_bundle, "onnxruntime-cuda").encode_video(frames(tiny_bundle))


def test_fp32_means_fp32_on_the_gpu(install: Any, tiny_bundle: Bundle) -> None:
    library = install(Library())
    open_runtime(tiny_bundle, "onnxruntime-tensorrt")
    (first, first_options), (second, second_options) = library.asked[0]
    assert (first, second) == (TRT, CUDA)
    assert first_options["trt_fp16_enable"] == "0"
    assert second_options["use_tf32"] == "0"


def test_auto_falls_back_to_the_processor_and_says_why(install: Any, tiny_bundle: Bundle) -> None:
    class HalfBroken(Library):
        def InferenceSession(self, file: str, options: Any, providers: Any) -> Any:
            if providers == [CPU]:
                return super().InferenceSession(file, options, [(CPU, {})])
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    library = install(HalfBroken())
    library.SessionOptions = lambda: SimpleNamespace(add_session_config_entry=lambda *_: None)
    runtime = open_runtime(tiny_bundle)
    assert runtime.name == "onnxruntime-cpu"
    assert len(runtime.selection) == 4
    assert "no CUDA-capable device" in runtime.selection[2]
