"""Frames of the next micro-batch go up to the GPU while the present one is worked on."""

from __future__ import annotations

from dataclasses import replace

import torch

from model.data.frames.loading import Batch


class DevicePrefetch:
    """Copy frames on a stream of its own; on the processor there is nothing to copy."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def ahead(self) -> bool:
        """Whether it is of any use to begin early."""
        return self._stream is not None

    def begin(self, batch: Batch) -> Batch:
        """Begin to copy the frames of a batch; `wait` before they are read."""
        if self._stream is None:
            return batch
        with torch.cuda.stream(self._stream):
            return replace(batch, frames=batch.frames.to(self.device, non_blocking=True))

    def wait(self, batch: Batch) -> None:
        """Have what is queued from here on find the frames in place."""
        if self._stream is not None:
            present = torch.cuda.current_stream(self.device)
            present.wait_stream(self._stream)
            # Their memory must not be given away before the present stream has read it.
            batch.frames.record_stream(present)
