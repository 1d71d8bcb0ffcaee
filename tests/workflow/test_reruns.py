"""The rerun matrix: what an edit of code or config makes Snakemake do again. It stands in docs/architecture.md, made here.

After a change that means to alter it: PMQBENCH_WRITE_DOCS=1 python -m pytest tests/workflow/test_reruns.py
"""

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

CONFIG = ("--configfile", "tiny.yaml")
DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"
BLOCK = re.compile(r"(<!-- reruns:begin -->\n)(.*?)(<!-- reruns:end -->)", re.DOTALL)
CODE = "\nEDITED = 1\n"
REPORT = {"collect_records", "rank_models", "plot_comparison", "track_runs", "collect_warnings", "write_page"}
EVALUATIONS = {"evaluate_model", "evaluate_expert", "evaluate_seeds", "evaluate_merge"}


class Edits:
    """One finished run whose files are edited, planned and put back."""

    def __init__(self, project):
        self.project, self.plans = project, {}

    def planned(self, *arguments):
        plan = self.project.planned(*(arguments or CONFIG))
        plan.pop("total", None)
        plan.pop("all", None)
        return plan

    @contextmanager
    def changed(self, files):
        """Files with new content, all newer than any result."""
        before = {path: path.read_bytes() for path in files}
        times = {path: path.stat() for path in files}
        for path, text in files.items():
            path.write_text(text)
        yield
        for path, content in before.items():
            path.write_bytes(content)
            os.utime(path, ns=(times[path].st_atime_ns, times[path].st_mtime_ns))

    def of_code(self, *paths, edit=lambda text: text + CODE):
        files = {self.project.source / path: edit((self.project.source / path).read_text()) for path in paths}
        with self.changed(files):
            return self.planned()

    def of_config(self, change):
        path = self.project.work / "tiny.yaml"
        config = yaml.safe_load(path.read_text())
        change(config)
        with self.changed({path: yaml.safe_dump(config, sort_keys=False)}):
            return self.planned()

    def all_modules(self):
        files = [*(self.project.source / "pmqbench").rglob("*.py"), *(self.project.source / "scripts").glob("*.py")]
        return [path.relative_to(self.project.source) for path in files]


@pytest.fixture(scope="module")
def edits(done, tmp_path_factory):
    edits = Edits(done.copy(tmp_path_factory.mktemp("reruns")))
    assert edits.planned() == {}
    return edits


def commented(text):
    return text + "\n# a comment\n"


def documented(text):
    return re.sub(r'^"""', '"""Said otherwise: ', text, count=1)


def reworded(text):
    return text.replace("Did you mean", "Did you perhaps mean")


def prompted(text):
    definition = json.loads(text)
    return json.dumps(definition | {"templates": [*definition["templates"], "a small {}"]})


def seeds(*wanted):
    return lambda config: config.update(seeds=list(wanted))


def option(config):
    config["quantizers"]["awq"]["search_samples"] = 4


def renamed(config):
    config["merges"] = {"other": config["merges"].pop("ta"), **config["merges"]}
    config["quantizers"]["distilled"]["merges"] = ["other"]


def merge(config):
    config["merges"]["average"] = {"method": "simple_average"}


def candidates(config):
    config["merges"]["ties-val"]["tune_scaling"].append(0.5)


def anchors(config):
    config["quantizers"]["epmq"]["tune"]["anchor"].append(10)


def batch(config):
    config["evaluation"] = {"batch_size": 32}


METRIC = "pmqbench/evaluation/protocols/zero_shot.py"
MATRIX = {
    "a comment in every module and script": lambda e: e.of_code(*e.all_modules(), edit=commented),
    "a docstring in every module and script": lambda e: e.of_code(*e.all_modules(), edit=documented),
    "every module and script touched, as a switched branch does": lambda e: e.of_code(*e.all_modules(), edit=str),
    "a word in `errors.py`": lambda e: e.of_code("pmqbench/errors.py", edit=reworded),
    "the log in `jobs.py`": lambda e: e.of_code("pmqbench/jobs.py"),
    "determinism in `torch_setup.py`": lambda e: e.of_code("pmqbench/torch_setup.py"),
    "the metric in `evaluation/protocols/zero_shot.py`": lambda e: e.of_code(METRIC),
    "`merging/ties.py`": lambda e: e.of_code("pmqbench/merging/ties.py"),
    "`merging/engine.py`": lambda e: e.of_code("pmqbench/merging/engine.py"),
    "`quantization/solvers.py`": lambda e: e.of_code("pmqbench/quantization/solvers.py"),
    "`quantization/methods/awq.py`": lambda e: e.of_code("pmqbench/quantization/methods/awq.py"),
    "`refinement/distillation.py`": lambda e: e.of_code("pmqbench/refinement/distillation.py"),
    "`reporting/plots/average_by_bits.py`": lambda e: e.of_code("pmqbench/reporting/plots/average_by_bits.py"),
    "`reporting/statistics.py`": lambda e: e.of_code("pmqbench/reporting/statistics.py"),
    "a template of a task": lambda e: e.of_code("pmqbench/tasks/definitions/digits.json", edit=prompted),
    "config: `seeds: [0, 1]` -> `[0]`": lambda e: e.of_config(seeds(0)),
    "config: `seeds: [0, 1]` -> `[0, 1, 2]`": lambda e: e.of_config(seeds(0, 1, 2)),
    "config: an option of a quantizer": lambda e: e.of_config(option),
    "config: a merge more": lambda e: e.of_config(merge),
    "config: a candidate more of a tuned merge": lambda e: e.of_config(candidates),
    "config: a candidate more of a tuned quantizer": lambda e: e.of_config(anchors),
    "config: another name for a merge": lambda e: e.of_config(renamed),
    "config: the batch of evaluation": lambda e: e.of_config(batch),
}


@pytest.fixture(scope="module")
def matrix(edits):
    return {edit: plan(edits) for edit, plan in MATRIX.items()}


def test_what_changes_no_number_reruns_nothing(matrix):
    quiet = [edit for edit, plan in matrix.items() if not plan]
    assert len(quiet) == 6
    assert set(quiet) == {*list(MATRIX)[:5], "config: the batch of evaluation"}


def test_an_edit_reruns_what_it_changes(matrix):
    metric = matrix["the metric in `evaluation/protocols/zero_shot.py`"]
    assert metric["tune_scaling"] == 1
    assert metric["evaluate_expert"] == 2
    assert not metric.keys() & {"fetch_base", "fetch_expert", "build_heads", "prepare_task"}
    ties = matrix["`merging/ties.py`"]
    assert ties["merge_experts"] == ties["tune_scaling"] == 1
    assert sum(ties.get(rule, 0) for rule in ("calibrate_model", "calibrate_seeds")) in (3, 6)
    assert matrix["`quantization/methods/awq.py`"].keys() <= {"calibrate_seeds", *EVALUATIONS, *REPORT}
    assert matrix["`quantization/methods/awq.py`"]["calibrate_seeds"] == 2
    assert "merge_experts" not in matrix["`quantization/solvers.py`"]
    assert matrix["`reporting/plots/average_by_bits.py`"].keys() == {"plot_comparison", "track_runs"}
    assert not matrix["`reporting/statistics.py`"].keys() - REPORT
    assert matrix["a template of a task"]["build_heads"] == 1
    assert "calibrate_seeds" in matrix["determinism in `torch_setup.py`"]
    assert "fetch_base" in matrix["determinism in `torch_setup.py`"]


def test_a_seed_less_redoes_nothing_and_a_seed_more_is_computed_alone(matrix):
    assert matrix["config: `seeds: [0, 1]` -> `[0]`"].keys() <= REPORT
    more = matrix["config: `seeds: [0, 1]` -> `[0, 1, 2]`"]
    assert more["calibrate_model"] == 6
    assert more["refine_model"] == 1
    assert more["evaluate_model"] == 6 + 1
    assert more.keys() <= {"calibrate_model", "refine_model", "evaluate_model", *REPORT}


def test_a_changed_recipe_is_computed_alone(matrix):
    option = matrix["config: an option of a quantizer"]
    assert option["calibrate_seeds"] == option["evaluate_seeds"] == 2
    assert option.keys() <= {"calibrate_seeds", "evaluate_seeds", *REPORT}
    anchors = matrix["config: a candidate more of a tuned quantizer"]
    assert anchors["tune_quantizer"] == anchors["calibrate_seeds"] == anchors["evaluate_seeds"] == 2
    assert anchors.keys() <= {"tune_quantizer", "calibrate_seeds", "evaluate_seeds", *REPORT}
    refinement = matrix["`refinement/distillation.py`"]
    assert refinement["refine_model"] == 2
    assert refinement.keys() <= {"refine_model", *EVALUATIONS, *REPORT}
    assert matrix["config: a merge more"]["merge_experts"] == 1
    assert matrix["config: another name for a merge"].keys() <= REPORT


def test_the_matrix_in_the_docs_is_this_one(matrix):
    rows = ["| edit | jobs (of the tiny suite: 2 tasks, 2 merges, 5 quantizers, 2 seeds) |", "|:--|:--|"]
    for edit, plan in matrix.items():
        jobs = ", ".join(f"{rule} {count}" if count > 1 else rule for rule, count in sorted(plan.items()))
        rows.append(f"| {edit} | {jobs or 'none'} |")
    table = "\n".join(rows) + "\n"
    page = DOCS.read_text(encoding="utf-8")
    if os.environ.get("PMQBENCH_WRITE_DOCS"):
        DOCS.write_text(BLOCK.sub(lambda match: match[1] + table + match[3], page), encoding="utf-8")
        return
    assert BLOCK.search(page)[2] == table
