"""What the page shows of an answer: frames, why, calls, earlier answers; in a real browser."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.conftest import ROOT
from tests.service.conftest import RunningServer, clip_bytes

GREY = 15  # from one picture to the next


def grey_clip(file: Path, codec: str = "libx264") -> Path:
    """A clip of two seconds whose pictures tell their time by their shade of grey."""
    with av.open(file, "w") as container:
        stream = container.add_stream(codec, rate=8)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(16):
            picture = np.full((64, 96, 3), GREY * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file


def ask(page: Page, url: str, clip: Path | FilePayload, labels: str) -> None:
    page.goto(url)
    page.locator("#video").set_input_files(clip)
    page.get_by_label("Labels").fill(labels)
    page.locator("#go").click()
    expect(page.locator("#results li")).to_have_count(labels.count("\n") + 1)


def test_the_frames_that_were_looked_at_are_shown(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    ask(page, server.base_url, grey_clip(tmp_path / "grey.mp4"), "a\nb")
    pictures = page.locator("#frames img")
    expect(page.locator("#frames img[src]")).to_have_count(8)
    for picture, caption in zip(
        pictures.all(), page.locator("#frames span").all_inner_texts(), strict=True
    ):
        shade = picture.evaluate(
            """async (image) => {
                await image.decode();
                const canvas = new OffscreenCanvas(1, 1).getContext("2d");
                canvas.drawImage(image, 0, 0, 1, 1);
                return canvas.getImageData(0, 0, 1, 1).data[1];
            }"""
        )
        assert abs(shade - GREY * 8 * float(caption.removesuffix(" s"))) < GREY / 2


def test_the_page_says_what_the_answer_rests_on(page: Page, server: RunningServer) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.locator("#video").set_input_files(ROOT / "docs" / "clip.mp4")
    page.get_by_label("Labels").fill("a red circle moving left\na red circle moving right")
    page.locator("#go").click()
    expect(page.locator("#results li")).to_have_count(2)
    expect(page.locator("#because")).to_be_hidden()
    page.locator("#why").click()
    expect(page.locator("#because")).to_contain_text(
        "Backwards the answer is “a red circle moving r"
    )
    changes = page.locator("#frames output").all_inner_texts()
    answer = server.classify(
        (ROOT / "docs" / "clip.mp4").read_bytes(),
        labels=["a red circle moving left", "a red circle moving right"],
        explain="frames",
    ).json()
    assert [float(text.replace("−", "-")) for text in changes] == pytest.approx(
        [frame["change"] for frame in answer["explanation"]["frames"]], abs=0.006
    )
    expect(page.locator("#why")).to_be_hidden()


def test_the_times_are_shown_where_the_browser_cannot_play_the_clip(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    ask(page, server.base_url, grey_clip(tmp_path / "grey.avi", "mpeg4"), "a\nb")
    expect(page.locator("#frames span")).to_have_count(8)
    expect(page.locator("#frames img:visible")).to_have_count(0)


def test_the_last_answers_are_kept_in_the_tab(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    page.goto(server.base_url)
    page.evaluate("sessionStorage.clear()")  # of other tests
    ask(page, server.base_url, grey_clip(tmp_path / "first.mp4"), "one\ntwo")
    expect(page.locator("#frames img[src]")).to_have_count(8)
    shown = page.locator("#results").inner_text()
    ask(page, server.base_url, grey_clip(tmp_path / "second.mp4"), "one\ntwo\nthree")
    expect(page.locator("#frames img[src]")).to_have_count(8)
    page.reload()
    kept = page.locator("#history li")
    expect(kept).to_have_count(2)
    page.get_by_role("button", name="first.mp4").click()
    expect(page.locator("#results")).to_have_text(shown, use_inner_text=True)
    expect(page.locator("#frames img:visible")).to_have_count(8)
    expect(page.get_by_label("Labels")).to_have_value("one\ntwo")
    page.get_by_role("button", name="forget them").click()
    expect(kept).to_have_count(0)
    page.reload()
    expect(page.locator("#earlier")).to_be_hidden()


def test_the_calls_that_the_page_offers_give_its_answer(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    """With everything in them that a shell, curl or Python could take for its own."""
    name, labels = 'it\'s "my", clip;type=1.mp4', ["it's", '@"b" $HOME \\', "c;type=ü"]
    (tmp_path / name).write_bytes(clip_bytes(shade=5))
    ask(page, server.base_url, tmp_path / name, "\n".join(labels))
    expect(page.locator("#curl")).not_to_be_visible()
    page.get_by_text("Ask this from a program").click()
    curl, python = (page.locator(f"#{which}").inner_text() for which in ("curl", "python"))
    assert shlex.split(curl)[0] == "curl"
    expected = page.locator("#results li").all_inner_texts()
    answered = subprocess.run(
        ["bash", "-c", f"{curl} --silent"], cwd=tmp_path, check=True, capture_output=True
    )
    given = json.loads(answered.stdout)["predictions"]
    assert [f"{p['label']}\n{100 * p['score']:.1f} %" for p in given] == expected
    printed = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert printed.stdout.splitlines() == [f"{p['score']:.3f} {p['label']}" for p in given]


def test_a_phone_shows_all_of_it(page: Page, server: RunningServer, tmp_path: Path) -> None:
    clip = grey_clip(tmp_path / f"{'a_long_name_' * 10}.mp4")
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        ask(page, server.base_url, clip, f"{'endless' * 7}\na person {'who walks on ' * 4}")
        page.get_by_text("Ask this from a program").click()
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]
        beside = page.evaluate(
            """[...document.querySelectorAll("main *")].filter(
                (e) => !e.closest("pre, [hidden], textarea")
                    && e.getBoundingClientRect().right > innerWidth
            ).map((e) => e.outerHTML)"""
        )
        assert beside == []
    finally:
        page.set_viewport_size({"width": 1000, "height": 900})
