"""The page for people, in a real browser: choose a clip, rank labels, read a mistake."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from service.api.question_schema import EXAMPLE_LABELS
from tests.conftest import missing
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
    expect(rows).to_have_count(0)
    expect(page.locator("#facts")).to_be_empty()
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
