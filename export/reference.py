"""Torch's answers, in fp32, that every runtime is measured against.

N clips, T frames, K labels, L tokens, P patches, D vector length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from export.clips import ClipSamples
from export.runtime import Vectors
from model.inputs import InputSpec, Tokenizer
from model.network.pixels import NormalisePixels
from model.network.video_text import VideoTextNetwork

SUBJECTS = "a dog;two people;a child;someone;a crowd;an old man;a woman;the cook;a team;a robot"
ACTIONS = "juggling;riding;washing;throwing;drawing;cutting;opening;painting;carrying;repairing"
OBJECTS = "balls;a bicycle at night;hair;an egg"
PROMPTS_AT_ONCE = 50


@dataclass(frozen=True)
class Reference:
    """Features of N clips and logits (N,K); `token_ids` (K,L) is padded to the full context."""

    clips: ClipSamples
    token_ids: NDArray[np.int64]
    features: Mapping[str, Vectors]
    text: Vectors
    logits: Vectors


def verification_prompts() -> list[str]:
    """Make 400 different prompts of one to eight words."""
    parts = (SUBJECTS.split(";"), ACTIONS.split(";"), OBJECTS.split(";"))
    prompts = [f"{action} {thing}, {subject}" for subject, action, thing in product(*parts)]
    return [p.split()[0] + str(i) if i % 7 == 0 else p for i, p in enumerate(prompts)]


def torch_answers(net: VideoTextNetwork, tokenizer: Tokenizer, clips: ClipSamples) -> Reference:
    """Encode each clip alone and every prompt at full length, the way the network was published."""
    spec = net.inputs
    normalise = NormalisePixels(spec)
    ids = tokenizer.encode(verification_prompts(), spec.context_length, spec.pad_id)
    ids = pad_to_context(ids, spec)
    with torch.inference_mode():
        clips_one_by_one = torch.from_numpy(clips.frames).split(1)
        encoded = [net.encode_video(normalise(clip)) for clip in clips_one_by_one]
        video, context = (torch.cat(parts) for parts in zip(*encoded, strict=True))
        chunks = torch.from_numpy(ids).split(PROMPTS_AT_ONCE)
        text = torch.cat([net.encode_text(chunk) for chunk in chunks])
        logits = net.score(video, context, text)
    features = {"video": video.numpy(), "context": context.numpy()}
    return Reference(clips, ids, features, text.numpy(), logits.numpy())


def pad_to_context(token_ids: NDArray[np.int64], spec: InputSpec) -> NDArray[np.int64]:
    """Pad token ids (K,L) up to the context length."""
    missing = spec.context_length - token_ids.shape[1]
    return np.pad(token_ids, ((0, 0), (0, missing)), constant_values=spec.pad_id)
