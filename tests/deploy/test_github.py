"""The workflow runs what a person runs, and GitHub can read it and the issue forms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize(
    ("file", "schema"),
    [(WORKFLOW, "github-workflows"), *((form, "github-issue-forms") for form in FORMS)],
    ids=lambda value: getattr(value, "stem", value),
)
def test_github_can_read_it(file: Path, schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_what_a_person_runs() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert steps == [".ci/run"]
    called = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "make" in line]
    assert called == ["make check", "make test"]
