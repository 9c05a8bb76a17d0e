"""Prompt templates as users choose them: by the name of a published list, or written out."""

from __future__ import annotations

from collections.abc import Sequence

from model.inputs import check_templates
from model.inputs.text.templates import TEMPLATE_LISTS

IMAGENET = "imagenet80"  # CLIP's list for ImageNet, which open_clip has
TEMPLATE_NAMES = (*TEMPLATE_LISTS, IMAGENET)


def chosen_templates(name: str | None, own: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the templates of a published list and those that a user wrote, cleaned.

    None where neither is given: then a network's own are taken.

    Raises:
        ValueError: A template does not hold exactly one `{}`.
    """
    if name is None and own is None:
        return None
    return check_templates((*(published_templates(name) if name else ()), *(own or ())))


def published_templates(name: str) -> tuple[str, ...]:
    """Return the list of that name, one of `TEMPLATE_NAMES`."""
    if name != IMAGENET:
        return TEMPLATE_LISTS[name]
    import model.torchvision_schemas  # noqa: F401, I001  (before torchvision)
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
