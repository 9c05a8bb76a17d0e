"""What the network promises besides its numbers: shapes, frame counts, no state."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from model.network.config import VARIANTS, DropPathAxis, ModelConfig
from model.network.initialise import build_xclip, initialise
from model.network.mit import MultiframeIntegration
from model.network.transformer import DropPath, LayerNorm, QuickGELU, attention
from model.network.xclip import XClip, assemble
from tests.model.conftest import SMALL, random_inputs, randomise

ABLATIONS = [
    {"mit_layers": 0},
    {"prompt_layers": 0},
    {"cross_frame_messages": False},
    {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False},
]

# Million parameters of the published modules.
PARAMETERS = {
    "xclip-base-patch32": 196.6,
    "xclip-base-patch16": 194.9,
    "xclip-large-patch14": 575.7,
    "xclip-large-patch14-16-frames": 576.0,
}


@pytest.mark.parametrize(("name", "millions"), PARAMETERS.items())
def test_published_variants_have_the_published_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        net = assemble(VARIANTS[name])
    entries = {"base": 443, "large": 683}[name.split("-")[1]]
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == millions
    assert len(net.state_dict()) == entries


def test_forward_keeps_no_state(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    before = {name: dict(vars(module)) for name, module in small_net.named_modules()}
    with torch.no_grad():
        first = small_net(frames, ids)
        other = small_net(frames, ids[:2].flip(0))
        again = small_net(frames, ids)
    assert torch.equal(first, again)
    torch.testing.assert_close(other, first[:, :2].flip(1), atol=5e-5, rtol=0)
    assert {name: vars(module) for name, module in small_net.named_modules()} == before


def test_forward_is_the_sum_of_its_parts(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    with torch.no_grad():
        video, context = small_net.encode_video(frames)
        text = small_net.encode_text(ids)
        shared = small_net.score(video, context, text)
        own = small_net.score(video, context, text.expand(3, -1, -1))
        assert torch.equal(shared, small_net(frames, ids))
    torch.testing.assert_close(own, shared, atol=5e-5, rtol=0)


def test_padding_and_batching_change_nothing(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    with torch.no_grad():
        whole = small_net(frames, ids)
        alone = torch.cat([small_net(frames[i : i + 1], ids) for i in range(3)])
        short = small_net(frames, ids[:1, :4])
    torch.testing.assert_close(alone, whole, atol=5e-5, rtol=0)
    torch.testing.assert_close(short, whole[:, :1], atol=5e-5, rtol=0)


def test_only_the_time_table_knows_the_order_of_frames(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    shuffled = frames[:, [2, 0, 3, 1]]
    timeless = copy.deepcopy(small_net)
    assert isinstance(timeless.mit, MultiframeIntegration)
    with torch.no_grad():
        timeless.mit.positional_embedding.zero_()
        assert (timeless(frames, ids) - timeless(shuffled, ids)).abs().max() < 5e-5
        assert (small_net(frames, ids) - small_net(shuffled, ids)).abs().max() > 1e-2


@pytest.mark.parametrize(
    "shape",
    [(4, 1, 3, 48, 48), (4, 3, 3, 48, 48), (1, 8, 3, 48, 48), (4, 3, 48, 48), (1, 4, 3, 48, 32)],
)
def test_wrong_frames_are_refused_everywhere(small_net: XClip, shape: tuple[int, ...]) -> None:
    _, ids = random_inputs(SMALL)
    frames = torch.zeros(shape)
    for entrance in (lambda: small_net(frames, ids), lambda: small_net.encode_video(frames)):
        with pytest.raises(ValueError, match="4 frames of 48×48"):
            entrance()


def test_pixels_that_are_not_normalised_are_refused(small_net: XClip) -> None:
    with pytest.raises(ValueError, match="frames are uint8: normalise them"):
        small_net.encode_video(torch.zeros(2, 4, 3, 48, 48, dtype=torch.uint8))


@pytest.mark.parametrize(
    "ids",
    [torch.zeros(2, 17, dtype=torch.int64), torch.zeros(2, 0).long(), torch.zeros(5).long()],
)
def test_wrong_token_ids_are_refused(small_net: XClip, ids: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="L from 1 to 16"):
        small_net.encode_text(ids)
    with pytest.raises(ValueError, match=r"integers \(K, L\)"):
        small_net.encode_text(torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("video", "context", "text"),
    [
        ((1, 128), (1, 9, 128), (2, 64)),
        ((1, 64), (1, 9, 128), (2, 128)),
        ((1, 128), (1, 9, 64), (2, 128)),
        ((2, 128), (1, 9, 128), (2, 128)),
        ((1, 128), (2, 9, 128), (2, 128)),
        ((2, 128), (2, 9, 128), (3, 5, 128)),
        ((2, 128), (2, 9, 128), (1, 5, 128)),
        ((128,), (2, 9, 128), (5, 128)),
        ((2, 128), (2, 128), (5, 128)),
        ((2, 128), (2, 9, 128), (128,)),
    ],
)
def test_features_that_do_not_belong_together_are_refused(
    small_net: XClip, video: tuple[int, ...], context: tuple[int, ...], text: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="score takes video"):
        small_net.score(torch.zeros(video), torch.zeros(context), torch.zeros(text))


@pytest.mark.parametrize("change", ABLATIONS)
def test_ablated_networks_score_clips(change: dict[str, int]) -> None:
    config = SMALL.model_copy(update=change)
    net = build_xclip(config, seed=0).eval()
    randomise(net)
    frames, ids = random_inputs(SMALL)
    with torch.no_grad():
        logits = net(frames, ids)
        if not config.cross_frame_messages and not config.mit_layers:
            shuffled = net(frames[:, [3, 1, 0, 2]], ids)
            torch.testing.assert_close(logits, shuffled, atol=5e-5, rtol=0)
    assert logits.shape == (3, 5)
    assert torch.isfinite(logits).all()


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two, other = (build_xclip(SMALL, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["visual.proj"], other["visual.proj"])


@pytest.mark.parametrize("change", [{}, *ABLATIONS])
def test_every_parameter_of_a_fresh_network_gets_a_value(change: dict[str, int]) -> None:
    config = SMALL.model_copy(update=change)
    net = assemble(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(float("nan"))
    initialise(net, config, generator=None)
    assert [n for n, p in net.named_parameters() if not torch.isfinite(p).all()] == []


def test_published_first_values() -> None:
    net = build_xclip(VARIANTS["tiny"], seed=0)
    assert isinstance(net.mit, MultiframeIntegration)
    assert net.prompt is not None
    assert net.patch_context is not None
    assert torch.equal(net.prompt.alpha, torch.full_like(net.prompt.alpha, 0.1))
    assert net.patch_context.proj.std().item() == pytest.approx(1.0, abs=0.05)
    assert net.mit.positional_embedding.std().item() == pytest.approx(0.02, abs=0.005)
    over_time: Any = net.mit.blocks[0]
    of_frame: Any = net.visual.blocks[0]
    assert over_time.mlp.c_fc.bias.abs().max() == 0
    assert of_frame.message_fc.bias.abs().max() > 0
    assert of_frame.message_attn.out_proj.bias.abs().max() == 0
    assert net.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_gradients_reach_every_parameter(small_net: XClip) -> None:
    net = copy.deepcopy(small_net).train()
    frames, ids = random_inputs(SMALL)
    net(frames, ids).logsumexp(dim=1).sum().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_checkpointed_blocks_give_the_same_gradients(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    gradients = []
    for segments in (0, 3):
        net = copy.deepcopy(small_net).train()
        net.visual.checkpoint_segments = segments
        net(frames, ids).sum().backward()
        gradients.append(net.visual.conv1.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(("by", "axis"), [("clip", 0), ("position", 2)])
def test_drop_path_drops_whole_clips_or_positions(by: DropPathAxis, axis: int) -> None:
    clips, frames, tokens, width = 6, 4, 5, 8
    layer = DropPath(0.5, by)
    x = torch.ones(clips * frames, tokens, width)
    y = layer(x, clips).view(clips, frames, tokens, width)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    others = [dim for dim in range(4) if dim != axis]
    assert torch.equal(y.amin(others), y.amax(others))
    assert torch.equal(layer.eval()(x, clips), x)


def test_drop_path_keeps_the_mean_and_grows_with_depth() -> None:
    config = SMALL.model_copy(update={"drop_path": 0.2})
    net = build_xclip(config, seed=0)
    blocks: Any = net.visual.blocks
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0, 0.1, 0.2])
    x = torch.ones(4000, 1, 1)
    assert DropPath(0.2, "clip")(x, 4000).mean().item() == pytest.approx(1.0, abs=0.05)
    frames, ids = random_inputs(SMALL, clips=2)
    with torch.no_grad():
        assert not torch.equal(net.train()(frames, ids), net(frames, ids))
        assert torch.equal(net.eval()(frames, ids), net(frames, ids))


def test_half_precision_stays_close(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    with torch.no_grad():
        exact = small_net(frames, ids)
        for dtype, limit in ((torch.bfloat16, 0.5), (torch.float16, 0.1)):
            half = copy.deepcopy(small_net).to(dtype)
            rough = half(frames.to(dtype), ids)
            assert rough.dtype == torch.float32
            assert (exact - rough).abs().max() < limit


def test_layer_norm_holds_where_half_precision_would_overflow() -> None:
    norm = LayerNorm(64).half()
    x = torch.linspace(-30000, 30000, 64)
    expected = torch.nn.functional.layer_norm(x, (64,))
    torch.testing.assert_close(norm(x.half()).float(), expected, atol=2e-3, rtol=2e-3)


def test_autocast_keeps_residuals_and_cosine_in_fp32(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    seen = []
    hook = small_net.visual.blocks[1].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].dtype)
    )
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = small_net(frames, ids)
    hook.remove()
    assert (seen, rough.dtype) == ([torch.float32], torch.float32)
    with torch.no_grad():
        assert (rough - small_net(frames, ids)).abs().max() < 0.5
        # Bits that bf16 does not have: the cosine itself was not rounded.
        assert not torch.equal(rough, rough.bfloat16().float())


def test_attention_under_autocast_on_a_processor_is_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, generator=generator).bfloat16() for _ in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention(q, k, v), exact)
    assert attention(q, k, v).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 50}, "multiple of patch_size"),
        ({"embed_dim": 100}, "multiple of 64"),
        ({"mit_heads": 7}, "multiple of mit_heads"),
        ({"depth": 3}, "Extra inputs"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_the_activation_is_the_same_function_while_it_is_trained() -> None:
    x = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    plain = x.clone().requires_grad_()
    expected = plain * torch.sigmoid(1.702 * plain)
    (slope,) = torch.autograd.grad(expected.sum(), plain)
    trained = x.clone().requires_grad_()
    found = QuickGELU()(trained)
    assert (found - expected).abs().max() < 1e-14
    (own,) = torch.autograd.grad(found.sum(), trained)
    assert (own - slope).abs().max() < 1e-14
    assert torch.equal(QuickGELU()(x), expected.detach())
