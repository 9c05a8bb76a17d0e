"""Published lists of templates, by name."""

from __future__ import annotations

import pytest

import model.torchvision_schemas  # noqa: F401  (before torchvision)
from model.checkpoints.templates import IMAGENET, TEMPLATE_NAMES, chosen_templates
from model.inputs import fill_template


@pytest.mark.parametrize(("name", "count"), [("kinetics28", 28), ("ucf48", 48), (IMAGENET, 80)])
def test_every_list_has_its_prompts_once(name: str, count: int) -> None:
    listed = chosen_templates(name, None)
    assert listed is not None
    assert len(set(listed)) == len(listed) == count
    assert all(template.count("{}") == 1 for template in listed)
    assert name in TEMPLATE_NAMES


def test_imagenets_is_the_one_that_open_clip_asks_with() -> None:
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    listed = chosen_templates(IMAGENET, None)
    assert listed is not None
    asked = [fill_template(template, "great grey owl").text for template in listed]
    assert asked == [template("great grey owl") for template in OPENAI_IMAGENET_TEMPLATES]


def test_own_templates_stand_behind_a_published_list() -> None:
    assert chosen_templates(None, None) is None
    assert chosen_templates(None, ["{}"]) == ()
    both = chosen_templates("kinetics28", ["we see {}"])
    assert both is not None
    assert both[-1] == "we see {}"
    assert len(both) == 29
    with pytest.raises(ValueError, match="no place"):
        chosen_templates(None, ["no place"])
