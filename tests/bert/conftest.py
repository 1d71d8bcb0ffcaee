"""The suite of texts in docs/bring-your-own.md: models, data and config as the page makes them, run through the workflow."""

import re
import subprocess
import sys

import pytest

from tests.workflow.conftest import ROOT, Project, environment


@pytest.fixture(scope="session")
def blocks():
    """The section's blocks by language."""
    page = (ROOT / "docs" / "bring-your-own.md").read_text()
    section = page[page.index("## Texts into classes") :]
    return dict(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))


@pytest.fixture(scope="session")
def project(blocks, tmp_path_factory):
    """The example, run as written."""
    work = tmp_path_factory.mktemp("texts")
    command = [sys.executable, "-c", blocks["python"]]
    made = subprocess.run(command, cwd=work, env=environment(), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]
    (work / "texts.yaml").write_text(blocks["yaml"])
    run = Project(ROOT, work)
    run.snakemake("--configfile", "texts.yaml")
    return run
