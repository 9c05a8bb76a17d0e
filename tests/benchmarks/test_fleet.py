"""The fleet that measured costs ask for, and the page that shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import fleet
from benchmarks.lib.markdown import table
from benchmarks.lib.timing import RESULTS
from tests.conftest import ROOT

REDIS = fleet.RedisCosts(
    put_clip=0.04, get_clip=0.02, put_labels=0.04, clip_bytes=100e3, label_bytes=2e3
)
COSTS = fleet.Costs(
    decode=0.05, encode=0.3, text=0.04, score=0.01, request=0.04, measured=4.0, redis=REDIS
)


def needed(clips: float = 86_400e3, where: str = "fp32", **options: float) -> dict[str, Any]:
    """The fleet for a thousand clips a second, with nothing to spare unless asked for."""
    given = {"peak": 1, "load": 1, "known": 0, "new-labels": 0, "clip-ttl-s": 0} | {
        name.replace("_", "-"): value for name, value in options.items()
    }
    flags = [f"--{name}={value}" for name, value in given.items()]
    return fleet.fleet(clips, where, COSTS, fleet.parser().parse_args(flags))


def test_the_measured_point_is_what_a_fleet_of_it_gives() -> None:
    """Two cores answer 4 clips a second, so a thousand a second take 500."""
    assert COSTS.expected == pytest.approx(5)
    assert COSTS.share_reached == pytest.approx(0.8)
    assert needed()["cores"] == 500


@pytest.mark.parametrize(
    ("options", "cores"),
    [
        ({"peak": 2}, 1000),
        ({"load": 0.5}, 1000),
        ({"new_labels": 1}, 600),
        ({"clip_ttl_s": 3600}, 550),
        ({"clip_ttl_s": 3600, "known": 1}, 88),
        ({"known": 1}, 63),
        ({"where": "card"}, 113),
    ],
)
def test_assumptions_change_the_fleet(options: dict[str, Any], cores: int) -> None:
    assert needed(**options)["cores"] == cores


def test_cards_take_the_network_from_the_processors() -> None:
    assert needed(where="fp32")["cards"] == 0
    assert needed(where="card", card_clips_per_s=300)["cards"] == 4


def test_redis_holds_what_comes_while_a_clip_is_kept() -> None:
    labels = needed()["Redis GB"]
    an_hour = needed(clip_ttl_s=3600)["Redis GB"] - labels
    assert an_hour == pytest.approx(1000 * 3600 * 100e3 * 1.5 / 1e9)
    assert needed(known=0.5, clip_ttl_s=3600)["Redis GB"] - labels == pytest.approx(an_hour / 2)


def test_costs_are_those_of_the_reports() -> None:
    rows = json.loads((RESULTS / "serving.json").read_text())["rows"]
    for precision in fleet.PRECISIONS:
        costs = fleet.read_costs(RESULTS, precision)
        assert costs.measured in [row["clips/s"] for row in rows if row["precision"] == precision]
        assert costs.encode > costs.score > 0
        assert costs.redis.clip_bytes > 4 * 512 * 50
        assert min(costs.redis.put_clip, costs.redis.get_clip, costs.redis.put_labels) > 0


def test_the_page_shows_what_was_calculated() -> None:
    report = json.loads((RESULTS / "fleet.json").read_text())
    page = (ROOT / "docs" / "distributed.md").read_text()
    assert table(report["rows"]) in page
    assert table(report["two_cores"]) in page
    assert report["command"] in page
