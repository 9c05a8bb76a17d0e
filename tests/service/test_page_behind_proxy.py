"""Page and documents under a prefix behind nginx, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import ROOT
from tests.service.conftest import running
from tests.service.nginx import nginx_on_a_port

LOCATIONS = """
  location /prefix/ {{ proxy_pass http://127.0.0.1:{server}/; }}
  location /left/ {{
    proxy_pass http://127.0.0.1:{server}; proxy_set_header X-Forwarded-Prefix /left;
  }}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("nginx")
    with (
        running() as server,
        nginx_on_a_port(folder, LOCATIONS.format(server=server.port)) as port,
    ):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("prefix", ["prefix", "left"])
def test_a_person_ranks_labels_and_reads_the_documents(
    page: Page, address: str, prefix: str
) -> None:
    failed: list[str] = []
    page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
    page.goto(f"{address}/{prefix}/")
    expect(page.get_by_label("Labels").first).not_to_have_value("")  # of the bundle
    page.locator("#video").set_input_files(Path(ROOT) / "docs" / "clip.mp4")
    page.locator("#go").click()
    expect(page.locator("#results li").first).to_be_visible()
    page.get_by_role("button", name="Draw a timeline").click()
    expect(page.locator("#bands .segment").first).to_be_visible()
    page.get_by_role("link", name="API").click()
    expect(page.get_by_text("Rank labels for a clip")).to_be_visible()
    assert failed == []
