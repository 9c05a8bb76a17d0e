"""What the documents name exists: links, files, modules, targets of make, options; commands run."""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import subprocess
import sys
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


def test_every_page_stands_in_the_index() -> None:
    docs = ROOT / "docs"
    index = set(LINK.findall((docs / "README.md").read_text()))
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")}
    assert pages - {page.removeprefix("docs/") for page in WRITTEN} - {"README.md"} <= index


def test_every_room_is_named() -> None:
    named = set(FILE.findall((ROOT / "docs" / "architecture.md").read_text()))
    packages = ("export", "model", "service", "xclip_serve")
    folders = {file.parent for package in packages for file in (ROOT / package).rglob("*.py")}
    rooms = {folder for folder in folders if folder.parent != ROOT}
    assert not [room for room in rooms if f"{room.relative_to(ROOT)}/" not in named]


# What a reader may run; other blocks show what came out, or a picture.
COMMANDS = ("sh", "bash", "python", "nginx")
BLOCK = re.compile(
    r"^(?P<before>[^\n]*)\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUNS_IN = re.compile(r"<!-- runs in (tests/[\w/]+\.py)::(test_\w+) -->")
NOT_RUN = re.compile(r"<!-- not run: \S.{15,} -->")
OURS = re.compile(
    r"(?:^|\s|/)(?:python3? -m "
    r"(?P<module>(?:export|model|service)[\w.]*(?: verify| inspect| compare| triton)?)"
    r"|xclip-serve (?P<verb>\w+))"
)
PUBLIC = [page for page in NAMES_FILES if page.parent != ROOT or page.name == "README.md"]


def blocks() -> list[tuple[Path, re.Match[str]]]:
    return [
        (page, match)
        for page in PUBLIC
        for match in BLOCK.finditer(page.read_text())
        if match["language"] in COMMANDS
    ]


def test_each_command_runs_in_a_test_or_says_why_not() -> None:
    """A comment before the block says which; it does not show on the page."""
    for page, block in blocks():
        where = f"{page.relative_to(ROOT)}: {block['text'].splitlines()[0]}"
        named = RUNS_IN.fullmatch(block["before"])
        assert named or NOT_RUN.fullmatch(block["before"]), f"{where}: runs in which test?"
        if named:
            test = (ROOT / named[1]).read_text()
            assert f"def {named[2]}(" in test, f"{where}: no such test"
            assert page.name in test, f"{where}: {named[1]} does not read the page"


def commands() -> list[str]:
    """Every line of a shell block that calls a program of ours."""
    lines = [
        line
        for _, block in blocks()
        if block["language"] in ("sh", "bash")
        for line in re.sub(r"\\\n\s*", "", block["text"]).splitlines()
    ]
    return sorted({line.partition(" #")[0].strip() for line in lines if OURS.search(line)})


@functools.cache
def help_of(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *program.split(), "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", commands())
def test_the_options_of_a_command_exist(command: str) -> None:
    """Also of those that no test runs."""
    called = OURS.search(command)
    assert called is not None
    program = called["module"] or f"xclip_serve {called['verb']}"
    if program in ("model.data", "xclip_serve data"):
        program += f" {shlex.split(command[called.end() :])[0]}"
    options = re.findall(r"(?<=\s)--[a-z][\w-]*", command[called.end() :])
    known = help_of(program)
    assert [option for option in options if not re.search(rf"{option}\b(?!-)", known)] == []
