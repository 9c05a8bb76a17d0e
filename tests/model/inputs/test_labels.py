"""What a client writes as a label or a template: cleaned, or refused with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import model.inputs.text.labels
from model.inputs import (
    check_template,
    check_templates,
    clean_label,
    fill_template,
    label_key,
    label_prompts,
)


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("archery", "archery"),
        ("  playing \t the\n harp ", "playing the harp"),
        ("a\u00a0b\u2003c\u3000d", "a b c d"),
        ("nul\x00 bell\x07", "nul bell"),
        ("\ufeffbom", "bom"),
        ("soft\u00adhyphen", "softhyphen"),
        ("over\u202eride", "override"),
        ("zero\u200bwidth", "zerowidth"),
        ("Straße", "Straße"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🚀 flying", "👩\u200d🚀 flying"),
        ("e\u0301", "e\u0301"),
        ("{literal}", "{literal}"),
    ],
)
def test_label_is_cleaned(written: str, cleaned: str) -> None:
    assert clean_label(written) == cleaned


@pytest.mark.parametrize("written", ["", "   ", "\t\n", "\x00\x01", "\u200b\ufeff", "\u2028"])
def test_label_of_nothing_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="a label is empty"):
        clean_label(written)


def test_half_a_surrogate_pair_is_refused_and_shown_readably() -> None:
    with pytest.raises(ValueError, match=r"label 'a\\ud800' is not valid Unicode"):
        clean_label("a\ud800")


@given(st.text())
def test_cleaning_twice_changes_nothing(written: str) -> None:
    try:
        cleaned = clean_label(written)
    except ValueError:
        return
    assert clean_label(cleaned) == cleaned
    assert cleaned == cleaned.strip()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Archery", "archery"),
        ("playing  harp", " playing harp"),
        ("rock &amp; roll", "rock & roll"),
        ("caf\u00e9", "cafe\u0301"),
        ("it’s", "it's"),
    ],
)
def test_labels_that_the_network_cannot_tell_apart_share_a_key(one: str, other: str) -> None:
    assert label_key(one) == label_key(other)


def test_different_labels_have_different_keys() -> None:
    assert label_key("sword") != label_key("swords")


def test_template_is_filled_with_the_cleaned_label() -> None:
    prompt = fill_template("a video of  {} .", "  juggling\tballs ")
    assert (prompt.label, prompt.text) == ("juggling balls", "a video of juggling balls .")


def test_braces_of_a_label_are_not_taken_for_a_place() -> None:
    assert fill_template("a {} b", "{}").text == "a {} b"
    assert fill_template("a {} b", "{0}").text == "a {0} b"


@pytest.mark.parametrize("template", ["{}", "a photo of {}", "{}, on video"])
def test_template_with_one_place_passes(template: str) -> None:
    assert check_template(template) == template


@pytest.mark.parametrize(
    "template", ["", "no place", "{} and {}", "{label}", "{0}", "a {} {", "}{", "{{}}", "{ }"]
)
def test_template_without_exactly_one_place_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        check_template(template)


def test_prompts_of_a_label_are_one_for_each_template_or_the_label_itself() -> None:
    assert label_prompts([" a  dog "]) == ["a dog"]
    assert label_prompts(["a dog", "{}"], ("{}", "a video of {}")) == [
        *("a dog", "a video of a dog"),
        *("{}", "a video of {}"),
    ]
    with pytest.raises(ValueError, match="must hold exactly one"):
        label_prompts(["a dog"], ("a video",))


def test_the_bare_template_is_none() -> None:
    assert check_templates(["{}"]) == check_templates([" {} "]) == check_templates([]) == ()
    assert check_templates(["{}", "a  {}"]) == ("{}", "a {}")


def test_labels_and_templates_are_cleaned_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[str] = []

    def noted(text: str, what: str) -> str:
        cleaned.append(what)
        return text

    monkeypatch.setattr(model.inputs.text.labels, "_clean", noted)
    assert len(label_prompts(["a", "b", "c"], ["{}", "the {}"])) == 6
    assert sorted(cleaned) == ["label"] * 3 + ["template"] * 2
