"""What the network promises besides its numbers: shapes, frame counts, no state."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from model.config import VARIANTS, ModelConfig
from model.xclip import XClip, assemble, build_xclip
from tests.model.conftest import SMALL, random_inputs, randomise

ABLATIONS = [
    {"mit_layers": 0},
    {"prompt_layers": 0},
    {"cross_frame_messages": False},
    {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False},
]

# Million parameters of the published modules (fact sheet, section 2.1).
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


def test_forward_is_the_sum_of_its_parts_and_keeps_no_state(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    before = copy.deepcopy(small_net.__dict__["_buffers"])
    with torch.no_grad():
        first = small_net(frames, ids)
        other = small_net(frames, ids[:2].flip(0))
        again = small_net(frames, ids)
    assert torch.equal(first, again)
    torch.testing.assert_close(other, first[:, :2].flip(1), atol=5e-5, rtol=0)
    assert before == small_net.__dict__["_buffers"]
    assert not small_net.training


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


def test_wrong_text_is_refused(small_net: XClip) -> None:
    with pytest.raises(ValueError, match="L from 1 to 16"):
        small_net.encode_text(torch.zeros(2, 17, dtype=torch.int64))
    with pytest.raises(ValueError, match="score takes"):
        small_net.score(torch.zeros(1, 128), torch.zeros(1, 9, 128), torch.zeros(2, 64))


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


def test_published_first_values() -> None:
    net = build_xclip(VARIANTS["tiny"], seed=0)
    assert net.prompt is not None
    assert net.patch_context is not None
    assert torch.equal(net.prompt.alpha, torch.full_like(net.prompt.alpha, 0.1))
    assert net.patch_context.proj.std().item() == pytest.approx(1.0, abs=0.05)
    assert net.mit.positional_embedding.std().item() == pytest.approx(0.02, abs=0.005)
    assert net.mit.blocks[0].mlp.c_fc.bias.abs().max() == 0
    assert net.visual.blocks[0].message_fc.bias.abs().max() > 0
    assert net.visual.blocks[0].message_attn.out_proj.bias.abs().max() == 0
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


def test_drop_path_drops_whole_videos_in_training_only() -> None:
    config = SMALL.model_copy(update={"drop_path": 0.9})
    net = build_xclip(config, seed=0)
    frames, ids = random_inputs(SMALL, videos=2)
    with torch.no_grad():
        assert not torch.equal(net.train()(frames, ids), net(frames, ids))
        assert torch.equal(net.eval()(frames, ids), net(frames, ids))


def test_half_precision_stays_close(small_net: XClip) -> None:
    frames, ids = random_inputs(SMALL)
    half = copy.deepcopy(small_net).bfloat16()
    with torch.no_grad():
        exact, rough = small_net(frames, ids), half(frames.bfloat16(), ids)
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [({"patch_size": 50}, "multiple of patch_size"), ({"embed_dim": 100}, "multiple of 64")],
)
def test_impossible_architectures_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)
