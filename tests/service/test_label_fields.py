"""A list of labels, in the ways that people and programs write one."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from service.api.label_fields import BREAKS, check_labels, listed
from service.contract.errors import ApiError

THREE = ("cat", "dog", "bird")
ARRAY = json.dumps(THREE)
BOM = "\ufeff"


@pytest.mark.parametrize(
    "fields",
    [
        list(THREE),
        [*THREE, ""],
        [*THREE, "", ""],
        ["cat", "", "dog", " \r\n", "bird"],
        ["cat\u2028dog\u2029bird"],
        ["cat\vdog\fbird"],
        [f"{BOM}cat", "dog", "bird"],
        [ARRAY],
        [f"\n {json.dumps(THREE, indent=1)}\n"],
        [BOM + ARRAY],
        [quote(ARRAY)],
        [quote(ARRAY).lower().replace("%5b", "%5B")],
        ['["cat", "dog"]', '["bird"]'],
        ['["cat", "dog"]', "bird"],
        [ARRAY, ""],
        ["cat\ndog\nbird"],
        [f"{BOM}cat\r\ndog\r\n\r\nbird\r\n"],
        ["cat\rdog\rbird"],
        ["cat\n", "dog\nbird"],
    ],
)
def test_these_are_three_labels(fields: list[str]) -> None:
    assert check_labels(listed(fields), 3, 300) == THREE


@pytest.mark.parametrize(
    "label",
    ["cat, dog", "cat|dog", "a; b", '"a", "b"', "100 % wool", "50%5B", "man [laughing]", "{a} b"],
)
def test_this_is_one_label(label: str) -> None:
    if label.startswith("{"):
        with pytest.raises(ApiError, match="array of labels alone"):
            check_labels(listed([label]), 3, 300)
    else:
        assert check_labels(listed([label]), 3, 300) == (label,)


@pytest.mark.parametrize("label", ["&Tab;", "&nbsp; &#32;", "\u200b"])
def test_what_is_empty_to_the_network_is_refused(label: str) -> None:
    with pytest.raises(ApiError, match="label 2 is empty"):
        check_labels(listed(["cat", label]), 3, 300)


def test_brackets_are_no_list_among_others() -> None:
    assert check_labels(listed(["[laughter]", "[applause]"]), 3, 300) == (
        "[laughter]",
        "[applause]",
    )


def test_line_breaks_within_json_stay_in_their_label() -> None:
    assert check_labels(listed(['["a\\nb", "c"]']), 3, 300) == ("a b", "c")


@pytest.mark.parametrize(
    "field", ["['cat', 'dog']", "[cat,dog]", '["cat" "dog"]', '["cat",]', "[\u201ccat\u201d]"]
)
def test_a_broken_array_is_refused_with_how_one_looks(field: str) -> None:
    with pytest.raises(ApiError, match="double quotes") as refused:
        check_labels(listed([field]), 3, 300)
    assert '["a cat", "a dog"]' in refused.value.detail


PIECES = [
    *(f"a{sign}" * 11 for sign in BREAKS),
    "[" + "[]," * 11,
    '["a"' + ', "b"' * 11,
    quote("[" + "[]," * 11),
]


@pytest.mark.parametrize("field", PIECES, ids=ascii)
def test_what_falls_into_too_many_pieces_is_refused_unread(field: str) -> None:
    with pytest.raises(ApiError, match="more than 10") as refused:
        listed([field], 10)
    assert refused.value.code == "too_many_labels"
    assert len(listed(["a\n" * 10], 10)) == 10


def test_the_pieces_of_all_fields_count() -> None:
    assert len(listed(["a\nb"] * 5, 10)) == 10
    with pytest.raises(ApiError, match="more than 10"):
        listed(["a\nb"] * 6, 10)


def test_the_first_number_ends_the_reading() -> None:
    """What stands behind it is no JSON, which nobody finds out."""
    with pytest.raises(ApiError, match="array of strings"):
        listed(['["a", 1, 2.5 and so on'])
