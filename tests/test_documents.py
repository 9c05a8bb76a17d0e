"""What the documents name exists: links, files, modules of commands, targets of make."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SECTION = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
# In backticks, below a folder of ours: `service/app.py`, `docs/benchmarks/*.json`, `tests/model/`.
FILE = re.compile(
    r"`((?:benchmarks|configs|deploy|docs|examples|export|model|service|tests|xclip_serve|\.ci|\.github)/[\w./*{},-]*)[^`]*`"
)
MODULE = re.compile(r"python -m ((?:benchmarks|export|model|service|xclip_serve)\b[\w.]*)")
TARGET = re.compile(r"(?:`|^)make ([a-z][a-z-]*)", re.MULTILINE)
WRITTEN = {"docs/benchmarks/gpu.md"}  # by `make gpu-check`, on a machine that has one
# History names what is gone.
NAMES_FILES = [page for page in PAGES if page.name != "CHANGELOG.md"]


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of a page's headings."""
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in HEADING.findall(page.read_text())
    }


def alternatives(pattern: str) -> list[str]:
    """`a/{b,c}.py` as the shell reads it."""
    braces = re.search(r"\{([^}]*)\}", pattern)
    if braces is None:
        return [pattern]
    return [
        whole
        for part in braces[1].split(",")
        for whole in alternatives(pattern.replace(braces[0], part.strip(), 1))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    dead = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert not dead
    for link, fragment in SECTION.findall(text):
        target = page.parent / link if link else page
        assert fragment in anchors(target), f"{link}#{fragment}"


@pytest.mark.parametrize("page", NAMES_FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    files = [whole for named in FILE.findall(text) for whole in alternatives(named)]
    missing = [named for named in files if not any(ROOT.glob(named.rstrip("/.")))]
    assert not set(missing) - WRITTEN
    modules = set(MODULE.findall(text))
    assert not [name for name in modules if importlib.util.find_spec(name.rstrip(".")) is None]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(text)) <= targets
