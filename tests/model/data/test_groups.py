"""Cuts of one video are known by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.errors import DataError
from model.data.lists.folders import split_folders
from model.data.lists.groups import groups_of, joined


def grouped(rule: str, *paths: str) -> list[set[str]]:
    pairs = [(path, path.split("/")[0]) for path in paths]
    by_group: dict[str, set[str]] = {}
    for path, group in groups_of(pairs, rule).items():
        by_group.setdefault(group, set()).add(path)
    return list(by_group.values())


@pytest.mark.parametrize(
    "one",
    [
        "{}_c01.avi", "{}_c02.AVI", "{} part 2.mp4", "{}-0003.mp4", "{} (1).mp4", "{}.mp4",
        "{}_000010_000020.mp4", "{} copy.mp4", "{}-clip3.mp4", "{}_1.5.mp4", "{}.scene.12.mp4",
    ],
)  # fmt: skip
def test_what_numbers_a_cut_is_no_part_of_the_name(one: str) -> None:
    cut, other = "a/" + one.format("v_Biking_g01"), "a/another.mp4"
    assert grouped("stem", "a/v_Biking_g01_c07.avi", cut, other) == [
        {"a/v_Biking_g01_c07.avi", cut}, {other},
    ]  # fmt: skip


def test_numbers_of_videos_are_no_cuts() -> None:
    phone = [f"a/IMG_{i}.MOV" for i in range(4)]
    assert len(grouped("stem", *phone, "a/x.mp4")) == 5
    of_label = [f"brush_hair/brush_hair_{i}.mp4" for i in range(4)]
    assert len(grouped("stem", *of_label)) == 4
    # Where a whole label would be one video nothing could be held back.
    assert len(grouped("stem", *(f"a/scene two {i}.mp4" for i in range(4)))) == 4


def test_other_rules() -> None:
    paths = ("a/x/1.mp4", "a/x/2.mp4", "a/y/1.mp4")
    assert grouped("folder", *paths) == [set(paths[:2]), {paths[2]}]
    assert grouped("none", *paths) == [{path} for path in paths]
    assert grouped(r"/(\d)\.", *paths) == [{paths[0], paths[2]}, {paths[1]}]
    with pytest.raises(DataError, match="needs one group in parentheses"):
        grouped("x", *paths)
    with pytest.raises(DataError, match="no regular expression"):
        grouped("(", *paths)
    with pytest.raises(DataError, match=r"matches nothing in a/y/1\.mp4"):
        grouped("/(x)/", *paths)


def test_copies_join_the_groups_that_they_lie_in() -> None:
    groups = {"1": "p", "2": "p", "3": "q", "4": "q", "5": "r"}
    keys = joined(groups, {"1": "A", "2": "B", "3": "B", "4": "C", "5": "D"})
    assert len({keys[path] for path in "1234"}) == 1
    assert keys["5"] == "D"


def test_cuts_are_on_one_side_of_a_split(tmp_path: Path) -> None:
    for video in range(12):
        for cut in range(3):
            file = tmp_path / "wave" / f"video {'abcdefghijkl'[video]}_{cut}.mp4"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(f"{video} {cut}".encode())
    split = split_folders(tmp_path, 0.3, seed=0, group_by="stem")

    def videos(pairs: list[tuple[str, str]]) -> set[str]:
        return {path[: len("wave/video a")] for path, _ in pairs}

    assert split.train
    assert split.val
    assert not videos(split.train) & videos(split.val)
    assert (len(split.train), len(split.val)) == (24, 12)
    assert videos(split_folders(tmp_path, 0.3, seed=0, group_by="none").val) & videos(split.train)


@pytest.mark.parametrize("name", ["a" + " copy 1" * 35 + "x", "a" + ".1" * 100 + "x"])
def test_a_name_that_almost_fits_is_read_once(name: str) -> None:
    """With a pattern that goes back it would take years."""
    pairs = [(f"{name}.mp4", "cat"), ("dog.mp4", "dog")]
    assert groups_of(pairs, "stem")[f"{name}.mp4"].endswith("x")
