"""docs/bring-your-own.md, followed to the letter."""

import re
import subprocess
import sys

import pandas as pd

from tests.workflow.conftest import ROOT, environment


def test_the_example_runs_as_written_and_its_numbers_mean_something(tmp_path):
    page = (ROOT / "docs" / "bring-your-own.md").read_text()
    example = page[: page.index("## Models")]
    parts = {kind: re.findall(rf"```{kind}\n(.*?)```", example, re.DOTALL) for kind in ("python", "yaml", "console")}
    (code,), (config,) = parts["python"], parts["yaml"]
    run = {"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True}
    made = subprocess.run([sys.executable, "-c", code], **run)
    assert made.returncode == 0, made.stderr[-3000:]
    (tmp_path / "mine.yaml").write_text(config)
    for command in parts["console"]:
        words = command.strip().replace("/path/to/PMQ-Bench", str(ROOT)).split()
        done = subprocess.run([sys.executable, "-m", *words], **run)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    report = tmp_path / "results/suites/mine"
    assert (report / "report.html").stat().st_size > 100_000
    assert 'href="report.html"' in (report / "leaderboard.html").read_text()
    table = pd.read_csv(report / "leaderboard.csv")
    averages = table.set_index("merge")["average"]
    assert 30 < averages["pre-trained"] < 60  # two and three classes: 42 is chance
    assert averages["individual experts"] > 85
    ranked = table[table["rank"].notna()].set_index("quantizer")
    assert set(ranked.index) == {"full precision", "rtn", "gptq", "epmq"}
    assert averages["pre-trained"] + 20 < ranked.loc["full precision", "average"] < averages["individual experts"]
    assert ranked["average"].min() > averages["pre-trained"] + 10
    assert ranked["average"].nunique() > 1
