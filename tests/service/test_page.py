"""The page for people, in a real browser: choose a clip, rank labels, read a mistake."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import FilePayload, Page, expect, sync_playwright

from service.api.question_schema import EXAMPLE_LABELS
from tests.conftest import ROOT, missing
from tests.service.conftest import RunningServer, clip_bytes, running

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def page(server: RunningServer) -> Iterator[Page]:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("Chromium (`make test` installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1000, "height": 900})
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def test_a_person_ranks_labels(page: Page, server: RunningServer, tmp_path: Path) -> None:
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on(
        "request",
        lambda r: (
            None
            if r.url.startswith((f"http://127.0.0.1:{server.port}/", "blob:", "data:"))
            else complaints.append(f"asked {r.url}")
        ),
    )
    page.goto(f"http://127.0.0.1:{server.port}/")
    expect(page.locator("#model")).to_contain_text("onnxruntime-cpu")
    page.locator("#go").click()
    expect(page.locator("#message")).to_have_text("Choose a clip first.")

    clip = tmp_path / "clip.mp4"
    clip.write_bytes(clip_bytes())
    page.locator("#video").set_input_files(clip)
    page.get_by_label("Labels").fill("a dog\na cat\n\nan <b>odd</b> label")
    page.locator("#go").click()
    rows = page.locator("#results li")
    expect(rows).to_have_count(3)
    expect(page.locator("#results")).to_contain_text("an <b>odd</b> label")
    expect(page.locator("#facts")).to_contain_text("64×64")

    page.get_by_label("Labels").fill("a dog\na dog")
    page.locator("#go").click()
    expect(page.locator("#message")).to_contain_text("are the same")
    expect(page.locator("#answer")).to_be_hidden()
    assert [c for c in complaints if "422" not in c] == []


def test_the_documents_render_without_any_other_host(page: Page, server: RunningServer) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{server.port}/docs")
    expect(page.get_by_text("Rank labels for a clip")).to_be_visible()
    assert all(u.startswith((f"http://127.0.0.1:{server.port}/", "data:")) for u in asked)


@pytest.mark.parametrize("prefix", ["", "/video/api"])
def test_the_example_of_the_documents_works_as_it_stands(
    page: Page, tmp_path: Path, prefix: str
) -> None:
    """Try it out, choose a clip, Execute: nothing else is touched."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(clip_bytes(shade=3))
    with running(root_path="/video/api") as server:
        page.goto(f"{server.base_url}{prefix}/docs")
        classify = page.locator(".opblock-post").first
        classify.locator(".opblock-summary-control").click()
        classify.locator(".try-out__btn").click()
        classify.locator("input[type=file]").set_input_files(clip)
        with page.expect_response(f"{server.base_url}{prefix}/v1/classify") as answered:
            classify.locator("button.execute").click()
        assert answered.value.status == 200, answered.value.text()
        labels = {row["label"] for row in answered.value.json()["predictions"]}
    assert labels == set(EXAMPLE_LABELS)


def test_the_page_works_under_a_prefix(page: Page, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(clip_bytes(shade=3))
    with running(root_path="/video/api") as server:
        page.goto(f"{server.base_url}/video/api")
        expect(page.get_by_label("Labels")).not_to_have_value("")  # of the bundle that is served
        page.locator("#video").set_input_files(clip)
        page.locator("#go").click()
        expect(page.locator("#results li")).to_have_count(6)
        page.get_by_role("link", name="API").click()
        expect(page.get_by_text("Rank labels for a clip")).to_be_visible()


def test_the_page_asks_for_a_key_where_there_are_keys(page: Page, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{hashlib.sha256(b'xclip_alice').hexdigest()} alice\n")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(clip_bytes(shade=4))
    with running(api_keys_file=keys) as guarded:
        page.goto(f"http://127.0.0.1:{guarded.port}/")
        expect(page.locator("#model")).to_have_text("This server asks for an API key.")
        page.locator("#video").set_input_files(clip)
        page.locator("#go").click()
        expect(page.locator("#message")).to_contain_text("asks for an API key")
        page.get_by_label("API key").fill("xclip_alice")
        page.get_by_label("API key").press("Tab")
        expect(page.get_by_label("Labels")).not_to_have_value("")  # of the bundle
        page.locator("#go").click()
        expect(page.locator("#results li")).to_have_count(6)
        expect(page.locator("#model")).to_contain_text("onnxruntime-cpu")


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


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("\ufeffone\r\n\n  two \n", ["one", "two"]),
        ('id,Name,n\n0,"to be, or ""not""",1\n1,plain,2\n', ['to be, or "not"', "plain"]),
        ("name\nlast", ["last"]),
    ],
)
def test_labels_come_from_a_file(
    page: Page, server: RunningServer, text: str, labels: list[str]
) -> None:
    page.goto(server.base_url)
    expect(page.get_by_label("Labels")).not_to_have_value("")
    page.locator("#list").set_input_files(
        {"name": "labels.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    expect(page.get_by_label("Labels")).to_have_value("\n".join(labels))


@pytest.mark.parametrize(
    ("text", "told"), [("\n \n", "holds no label"), ('name\n"open', "quote in the table")]
)
def test_a_file_that_is_no_list_is_told(
    page: Page, server: RunningServer, text: str, told: str
) -> None:
    page.goto(server.base_url)
    page.locator("#list").set_input_files(
        {"name": "odd.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    expect(page.locator("#message")).to_contain_text("odd.csv: ")
    expect(page.locator("#message")).to_contain_text(told)


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


NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; proxy_request_buffering off; proxy_buffering off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 200m;
    location /deep/prefix/ {{ proxy_pass http://127.0.0.1:{behind}/; }}
  }}
}}
"""


def test_the_page_works_behind_a_proxy_that_strips_its_prefix(
    page: Page, server: RunningServer, tmp_path: Path
) -> None:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        missing("nginx (`make test` installs it)")
    (tmp_path / "clip.mp4").write_bytes(clip_bytes(shade=6))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = tmp_path / "nginx.conf"
        config.write_text(NGINX.format(folder=tmp_path, port=port, behind=server.port))
        process = subprocess.Popen(
            [nginx, "-p", str(tmp_path), "-c", str(config)],
            env={"NGINX": f"{listener.fileno()};"},  # it takes over our socket: no port is guessed
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
    try:
        ask(page, f"http://127.0.0.1:{port}/deep/prefix/", tmp_path / "clip.mp4", "a\nb")
        page.get_by_text("Ask this from a program").click()
        offered = page.locator("#curl").inner_text()
        assert f"http://127.0.0.1:{port}/deep/prefix/classify" in offered
        page.get_by_role("link", name="API").click()
        expect(page.get_by_text("Rank labels for a clip")).to_be_visible()
    finally:
        process.terminate()
        process.wait()
