"""The page for people, in a real browser: choose a clip, rank labels, read a mistake."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from service.api.question_schema import EXAMPLE_LABELS
from tests.conftest import missing
from tests.service.conftest import RunningServer, clip_bytes, running
from tests.service.test_page_answers import ask


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
