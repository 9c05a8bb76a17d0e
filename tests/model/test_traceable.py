"""The three entrances can be traced with free B, K and L, and a traced graph has frozen none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from model.network.initialise import build_xclip
from model.network.xclip import XClip
from tests.model.conftest import SMALL, random_inputs, randomise


class Entrance(nn.Module):
    """One method of the network as a module of its own."""

    def __init__(self, net: XClip, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, *args: Tensor) -> Any:
        return getattr(self.net, self.name)(*args)


def traced(net: XClip, name: str, args: tuple[Tensor, ...], free: list[dict[int, Any]]) -> Any:
    program = torch.export.export(Entrance(net, name), args, dynamic_shapes=(tuple(free),))
    return program.module()


@pytest.mark.parametrize(
    "change", [{}, {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False}]
)
def test_every_entrance_is_traced_with_free_axes(change: dict[str, Any]) -> None:
    net = build_xclip(SMALL.model_copy(update=change), seed=0).eval()
    randomise(net)
    clips, labels, tokens = Dim("B"), Dim("K"), Dim("L", max=SMALL.context_length)
    frames, ids = random_inputs(SMALL)
    with torch.no_grad():
        video, context = net.encode_video(frames)
        text = net.encode_text(ids).expand(3, -1, -1)
        encode_video = traced(net, "encode_video", (frames[:2],), [{0: clips}])
        encode_text = traced(net, "encode_text", (ids[:3],), [{0: labels, 1: tokens}])
        first = (video[:2], context[:2], text[:2, :3].contiguous())
        score = traced(net, "score", first, [{0: clips}, {0: clips}, {0: clips, 1: labels}])
        for n, k in ((1, 1), (3, 5)):
            for ours, theirs in zip(
                encode_video(frames[:n]), net.encode_video(frames[:n]), strict=True
            ):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
            expected = net.encode_text(ids[:k, :6])
            torch.testing.assert_close(encode_text(ids[:k, :6]), expected, atol=1e-5, rtol=1e-4)
            some = (video[:n], context[:n], text[:n, :k])
            torch.testing.assert_close(score(*some), net.score(*some), atol=5e-5, rtol=0)
