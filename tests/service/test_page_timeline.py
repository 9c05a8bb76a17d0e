"""The timeline on the page, in a real browser: bands that fill, bars that lead somewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import there_and_back
from tests.service.conftest import RunningServer, clip_bytes, until
from tests.service.test_timeline import Encoder, is_idle

LEFT, RIGHT = "a red circle moving left", "a red circle moving right"
CURRENT = "video => video.currentTime"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return there_and_back(tmp_path_factory.mktemp("film") / "film.mp4")


def draw(
    page: Page, url: str, clip: Path, labels: str, window: str = "1", every: str = "0.5"
) -> None:
    page.goto(url)
    page.locator("#video").set_input_files(clip)
    page.get_by_label("Labels").fill(labels)
    page.get_by_label("windows of").fill(window)
    page.get_by_label("every").fill(every)
    page.get_by_role("button", name="Draw a timeline").click()


def answered(server: RunningServer, film: Path) -> dict[str, Any]:
    response = httpx.post(
        f"{server.base_url}/v1/timeline",
        data={"labels": [LEFT, RIGHT], "window_s": "1", "stride_s": "0.5"},
        files={"video": ("film", film.read_bytes())},
        timeout=None,
    )
    answer: dict[str, Any] = response.json()
    return answer


def shade(page: Page, row: int, share: float) -> int:
    """How strong a band is at a part of its length: from 0 to 255."""
    strength: int = (
        page.locator("#bands canvas")
        .nth(row)
        .evaluate(
            "(c, share) => c.getContext('2d').getImageData(share * c.width, 0, 1, 1).data[3]", share
        )
    )
    return strength


def test_a_person_sees_when_each_label_holds(page: Page, server: RunningServer, film: Path) -> None:
    draw(page, server.base_url, film, f"{LEFT}\n{RIGHT}")
    bars = page.locator("#bands .segment")
    expect(bars.first).to_be_visible()
    expect(page.get_by_role("button", name="Draw a timeline")).to_be_visible()  # it is done
    assert page.locator("#bands .name").all_inner_texts() == [LEFT, RIGHT]
    answer = answered(server, film)
    said = [bar.get_attribute("aria-label") or "" for bar in bars.all()]
    assert [text.partition(":")[0] for text in said] == [
        segment["label"] for segment in sorted(answer["segments"], key=lambda s: s["index"])
    ]
    windows = answer["windows"]
    for row, label in enumerate([LEFT, RIGHT]):
        for window in (windows[0], windows[-1]):
            (share,) = (p["score"] for p in window["predictions"] if p["label"] == label)
            middle_s = (window["start_s"] + window["end_s"]) / 2
            shown = shade(page, row, middle_s / answer["video"]["duration_s"])
            assert shown / 255 == pytest.approx(share, abs=0.02)


def test_bands_and_bars_lead_to_their_time(page: Page, server: RunningServer, film: Path) -> None:
    draw(page, server.base_url, film, f"{LEFT}\n{RIGHT}")
    player, bars = page.locator("#player"), page.locator("#bands .segment")
    expect(bars.first).to_be_visible()
    player.evaluate("video => video.readyState || new Promise(r => video.onloadedmetadata = r)")
    band = page.locator("#bands .band").first
    box = band.bounding_box()
    assert box is not None
    band.click(position={"x": box["width"] * 0.75, "y": 3})
    length_s = player.evaluate("video => video.duration")
    assert player.evaluate(CURRENT) == pytest.approx(0.75 * length_s, abs=0.02 * length_s)
    bars.last.focus()
    page.keyboard.press("Enter")
    start_s = answered(server, film)["segments"][-1]["start_s"]
    assert player.evaluate(CURRENT) == pytest.approx(start_s, abs=0.01)


def test_none_of_these_is_a_band_where_it_is_asked_for(
    page: Page, server: RunningServer, film: Path
) -> None:
    page.goto(server.base_url)
    expect(page.locator("#model")).to_contain_text("onnxruntime-cpu")
    expect(page.get_by_label("with gaps")).not_to_be_checked()  # nothing is calibrated here
    page.get_by_label("with gaps").check()
    page.locator("#video").set_input_files(film)
    page.get_by_label("Labels").fill(LEFT)
    page.get_by_role("button", name="Draw a timeline").click()
    expect(page.locator("#bands .name")).to_have_text([LEFT, "none of these"])
    expect(page.locator("#message")).to_contain_text("not calibrated")


def test_stop_ends_the_work_on_the_server(
    page: Page, server: RunningServer, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(server, monkeypatch)
    draw(page, server.base_url, film, f"{LEFT}\n{RIGHT}")
    expect(page.locator("#bands .name")).to_have_text([LEFT, RIGHT])
    encoder.entered.wait()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#message")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Draw a timeline")).to_be_visible()
    until(lambda: is_idle(server))  # though the encoder is still at it
    encoder.goes_on.set()
    until(lambda: not server.server.engine.thread.waiting)
    assert encoder.calls == 1


def test_another_clip_takes_the_timeline_away(
    page: Page, server: RunningServer, film: Path, tmp_path: Path
) -> None:
    draw(page, server.base_url, film, LEFT)
    expect(page.locator("#timeline")).to_be_visible()
    (tmp_path / "other.mp4").write_bytes(clip_bytes())
    page.locator("#video").set_input_files(tmp_path / "other.mp4")
    expect(page.locator("#timeline")).to_be_hidden()
    page.locator("#go").click()
    expect(page.locator("#results li")).to_have_count(1)


def test_the_call_that_the_page_offers_gives_its_subtitles(
    page: Page, server: RunningServer, film: Path
) -> None:
    draw(page, server.base_url, film, f"{LEFT}\n{RIGHT}")
    bars = page.locator("#bands .segment")
    expect(bars.first).to_be_visible()
    count = bars.count()
    page.get_by_text("The same as subtitles").click()
    done = subprocess.run(
        ["bash", "-c", f"{page.locator('#timeline-curl').inner_text()} --silent"],
        cwd=film.parent, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith("WEBVTT\n")
    assert done.stdout.count(" --> ") == count


def test_a_mistake_is_told(page: Page, server: RunningServer, film: Path) -> None:
    draw(page, server.base_url, film, LEFT, every="0")
    expect(page.locator("#message.error")).to_contain_text("stride_s")
    expect(page.locator("#timeline")).to_be_hidden()
    expect(page.get_by_role("button", name="Draw a timeline")).to_be_enabled()


def test_a_phone_shows_all_of_it(page: Page, server: RunningServer, film: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        draw(page, server.base_url, film, f"{'endless' * 7}\n{LEFT}")
        expect(page.locator("#bands li")).to_have_count(2)
        beside = page.evaluate(
            """[...document.querySelectorAll("main *")].filter(
                (e) => !e.closest("pre, [hidden], textarea")
                    && e.getBoundingClientRect().right > innerWidth
            ).map((e) => e.outerHTML)"""
        )
        assert beside == []
    finally:
        page.set_viewport_size({"width": 1000, "height": 900})
