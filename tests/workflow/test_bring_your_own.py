"""docs/bring-your-own.md, followed to the letter."""

import re
import subprocess
import sys

import pandas as pd

from tests.workflow.conftest import ROOT, environment


def test_the_example_runs_as_written(tmp_path):
    page = (ROOT / "docs" / "bring-your-own.md").read_text()
    example = page[: page.index("## Models")]
    blocks = dict(re.findall(r"```(python|yaml|console)\n(.*?)```", example, re.DOTALL))
    run = {"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True}
    made = subprocess.run([sys.executable, "-c", blocks["python"]], **run)
    assert made.returncode == 0, made.stderr[-3000:]
    (tmp_path / "mine.yaml").write_text(blocks["yaml"])
    command = blocks["console"].strip().replace("/path/to/PMQ-Bench", str(ROOT)).split()
    done = subprocess.run([sys.executable, "-m", *command], **run)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    table = pd.read_csv(tmp_path / "results/suites/mine/leaderboard.csv")
    assert set(table["quantizer"].dropna()) >= {"full precision", "rtn", "gptq", "epmq"}
    assert table[["fruit", "weather"]].notna().all().all()
