"""Published lists of prompt templates, by name.

The lists for Kinetics and for UCF101 (used for HMDB51 as well) are those of CLIP (Radford et al.
2021, `data/prompts.md`). A label is compared with the mean vector of its prompts.
"""

from __future__ import annotations

from collections.abc import Mapping

KINDS = ("photo", "video", "example", "demonstration")
DOINGS = ("", "using ", "doing ", "during ", "performing ", "practicing ")

KINETICS = tuple(
    f"a {kind} of {who}{{}}."
    for kind in KINDS
    for who in ("", *(f"a person {doing}" for doing in DOINGS))
)
UCF = tuple(
    f"a {kind} of {article} person {doing}{{}}."
    for doing in DOINGS
    for article in ("a", "the")
    for kind in KINDS
)

TEMPLATE_LISTS: Mapping[str, tuple[str, ...]] = {"kinetics28": KINETICS, "ucf48": UCF}
