"""What all parts share: the options, the device, and networks and bundles that are made once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from benchmarks.gpu_check.device import Device
from benchmarks.gpu_check.options import Options

if TYPE_CHECKING:
    from benchmarks.gpu_check.runtimes import Bundles
    from model.network.xclip import XClip


class Check:
    """One run of the command. What needs a library is loaded when a part first asks for it."""

    def __init__(self, options: Options, device: Device) -> None:
        self.options, self.device = options, device
        self._network: tuple[str, XClip] | None = None

    @cached_property
    def bundles(self) -> Bundles:
        """The bundles, with engines where there is a GPU to build them for."""
        from benchmarks.gpu_check.runtimes import Bundles

        return Bundles(self.options.precisions, engines=self.device.name == "cuda")

    def network(self, variant: str) -> XClip:
        """Return the variant with random weights, on the processor; the last one is kept."""
        if self._network is None or self._network[0] != variant:
            from benchmarks.lib.networks import random_network

            self._network = (variant, random_network(variant))
        return self._network[1]
