"""The most that a machine multiplies: what every other speed is a share of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

Product = Callable[[], object]
SIZES, ROUNDS = (1024, 2048, 4096), 6
GPU_SIZES, GPU_PRODUCTS = (4096, 8192, 16384), 10


def matrix_peak(dtype: torch.dtype, sizes: Sequence[int] = SIZES) -> float:
    """Measure floating-point operations a second of the best product on the processor.

    The best of the libraries that are installed: on a processor of another maker torch's may reach
    half of what others do.
    """
    best = 0.0
    for size in sizes:
        for make in (_torch_product, _onnxruntime_product, _openvino_product):
            try:
                product = make(dtype, size)
            except ImportError:
                continue
            if product is None:
                continue
            for _ in range(ROUNDS):
                started = time.perf_counter()
                product()
                best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _torch_product(dtype: torch.dtype, size: int) -> Product:
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return lambda: torch.mm(a, b)


def _onnxruntime_product(dtype: torch.dtype, size: int) -> Product | None:
    """Multiply by a constant matrix, as in a network; it has no bf16 on the processor."""
    if dtype != torch.float32:
        return None
    from export.runtime import available_cpus
    from export.runtime.telemetry import keep_quiet

    keep_quiet()
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    a, b = (np.random.default_rng(i).standard_normal((size, size), np.float32) for i in range(2))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (size, size)) for n in ("a", "ab")]
    node = helper.make_node("MatMul", ["a", "b"], ["ab"])
    graph = helper.make_graph(
        [node], "product", ends[:1], ends[1:], [numpy_helper.from_array(b, "b")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"a": a})


def _openvino_product(dtype: torch.dtype, size: int) -> Product | None:
    """Multiply by a constant matrix, in fp32, or in bf16 where the processor has that."""
    import openvino
    from openvino import opset13

    from export.runtime import available_cpus

    core = openvino.Core()
    hint = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    a, b = (np.random.default_rng(i).standard_normal((size, size), np.float32) for i in range(2))
    given = opset13.parameter([size, size], np.float32)
    product = opset13.matmul(given, opset13.constant(b), False, False)
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": available_cpus(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(openvino.Model([product], [given]), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer([a], share_inputs=True)


def gpu_matrix_peak(dtype: torch.dtype, sizes: Sequence[int] = GPU_SIZES) -> float:
    """Measure the same on the GPU by its own clock: the median of several runs of ten products.

    Of random numbers: a GPU multiplies zeros faster than anything that has to be multiplied.
    """
    return max(_rate(dtype, size) for size in sizes)


def _rate(dtype: torch.dtype, size: int) -> float:
    a, b = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def products() -> None:
        for _ in range(GPU_PRODUCTS):
            torch.mm(a, b, out=out)

    products()
    seconds = statistics.median(event_seconds(products) for _ in range(ROUNDS))
    return GPU_PRODUCTS * 2 * size**3 / seconds


def event_seconds(run: Callable[[], object]) -> float:
    """Measure seconds on the GPU's own clock from before what `run` queues to its end."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3
