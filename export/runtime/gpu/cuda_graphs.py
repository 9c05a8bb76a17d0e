"""One clip at a time through a captured CUDA graph: all kernels launched at once, not one by one.

ONNX Runtime captures a session's kernels the first times that it runs under a `gpu_graph_id`, and
from then on replays them. A capture is of sizes and addresses, so the clip and what is made of it
have buffers of their own; batches of other sizes run as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.bundle import GraphInfo
from export.runtime.contract import Array
from export.runtime.gpu.device import DEVICE, Device, DeviceArray

CAPTURED, NOT_CAPTURED = "1", "-1"  # values of gpu_graph_id


class CapturedRuns:
    """Runs of a session that was made with `enable_cuda_graph`. Whoever calls holds the turn."""

    def __init__(self, library: Any, device: Device, session: Any, graph: GraphInfo) -> None:
        self._device, self._session, self._graph = device, session, graph
        self._captured = _options(library, CAPTURED)
        self.other_sizes = _options(library, NOT_CAPTURED)
        self._binding: Any = None
        self._inputs: dict[str, DeviceArray] = {}
        self._outputs: dict[str, DeviceArray] = {}

    def fits(self, inputs: Mapping[str, Array | DeviceArray]) -> bool:
        """Return whether this is the size that is captured: one clip."""
        return all(array.shape[0] == 1 for array in inputs.values())

    def run(self, inputs: Mapping[str, Array | DeviceArray]) -> dict[str, DeviceArray]:
        """Replay the graph for one clip; return copies of its outputs."""
        if self._binding is None:
            self._bind(inputs)
        self._device.upload(inputs, self._inputs)
        self._session.run_with_iobinding(self._binding, self._captured)
        # The next clip's go to the same buffers.
        copies = {name: self._device.join([buffer]) for name, buffer in self._outputs.items()}
        self._device.synchronize()
        return copies

    def _bind(self, inputs: Mapping[str, Array | DeviceArray]) -> None:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            buffer = self._inputs[name] = self._device.empty(array.shape, array.dtype)
            binding.bind_input(name, "cuda", DEVICE, buffer.dtype, buffer.shape, buffer.pointer)
        for tensor in self._graph.outputs:
            shape = tuple(size if isinstance(size, int) else 1 for size in tensor.shape)
            buffer = self._outputs[tensor.name] = self._device.empty(shape)
            binding.bind_output(
                tensor.name, "cuda", DEVICE, buffer.dtype, buffer.shape, buffer.pointer
            )
        self._binding = binding


def _options(library: Any, graph_id: str) -> Any:
    options = library.RunOptions()
    options.add_run_config_entry("gpu_graph_id", graph_id)
    return options
