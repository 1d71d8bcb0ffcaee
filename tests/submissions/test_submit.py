"""Entries made of local results, by the command and by the documents' way without code."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pmqbench.errors import DataError, PMQError
from pmqbench.submissions.admission import read_entries
from pmqbench.submissions.folder import entry_files
from pmqbench.submissions.submit import submit
from tests.submissions.conftest import TASKS, changed, outcomes, row, unknown

ROOT = Path(__file__).parents[2]


def test_submit_answers_what_it_cannot_write(suite, sent, tmp_path, monkeypatch):
    path = sent("ta/gptq/4")
    for row_name, by, link, why in (
        ("ta/gptq/3", "Ada", "", r'MODEL: small has no row "ta/gptq/3"\. Did you mean "ta/gptq/'),
        ("ta/gptq/4", "Ada", "", f"{path}: this model is there already"),
        ("ta/gptq/2", "", "", "BY: who sends the result in is not said"),
        ("ta/gptq/2", "Ada", "ftp://x", "LINK: URL scheme should be"),
    ):
        with pytest.raises(PMQError, match=why):
            submit(suite, "all", row_name, by, link, folder=path.parent)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"results/merged/.*manifest\.json: there is no such file\. Run the suite first"):
        submit(suite, "all", "ta/gptq/2", "Ada", "", folder=path.parent)
    assert list(path.parent.iterdir()) == [path]


def test_a_row_of_the_target_seeds_is_one_of_the_suites_own_seed(suite, here, tmp_path):
    one, other = (submit(suite, target, "ta/gptq/4", "Ada", "", folder=tmp_path / target) for target in ("all", "seeds"))
    assert one.read_text() == other.read_text()
    with pytest.raises(PMQError, match=r'MODEL: small@seeds has no row "ta/rtn/4"'):
        submit(suite, "seeds", "ta/rtn/4", "Ada", "", folder=tmp_path)


def test_a_method_of_ones_own_checkout_can_stay_there(suite, here, join, tmp_path):
    path = submit(suite, "all", "ta/epmq/4", "Ada", "", with_code=False, folder=tmp_path)
    changed(path, unknown)
    joint = join([path], {})
    assert joint.refused == {}
    assert row(joint.table, rank="1")["origin"] == "not regenerated"


def test_a_method_of_another_package_is_without_its_code(sent, join, monkeypatch):
    path = sent("ta/gptq/4")
    for module in ("checks", "submit"):
        monkeypatch.setattr(f"pmqbench.submissions.{module}.OWN", "pmqbench.merging.")  # so quantizers are another package's
    joint = join([path])
    assert joint.refused[str(path)].startswith('recipe.quantizer: "gptq" is a method of another package')
    for name, included in {"ta/gptq/2": False, "ta": True}.items():
        assert json.loads(sent(name).read_text())["code_included"] is included


def test_the_documents_way_without_code_makes_an_entry_that_is_taken(sent, join, tmp_path, monkeypatch):
    page = (ROOT / "docs/submitting.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    start, made = (tmp_path / path for path in re.findall(r'open\("(.*?)"', code))
    start.parent.mkdir(parents=True)
    shutil.copy(sent("ta/gptq/4"), start)
    (tmp_path / "mine").mkdir()
    for task in TASKS:
        for seed in (0, 1):
            np.save(tmp_path / f"mine/{task}-{seed}.npy", outcomes(0.8, task, f"mine{seed}"))
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        exec(code, {})
    joint = join([made])
    assert joint.refused == {}
    assert row(joint.table, quantizer="my-method")["origin"] == "not regenerated"


def test_the_project_own_entries_agree_with_themselves():
    assert read_entries(entry_files())[1] == {}
