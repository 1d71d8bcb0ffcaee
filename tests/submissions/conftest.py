"""The results of a small suite as the workflow leaves them, with made-up outcomes; no model is run."""

import csv
import json
import os
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pmqbench.config import load_suite
from pmqbench.costs import Costs
from pmqbench.files import hash8
from pmqbench.integrity import write_sealed
from pmqbench.records import Record, pack_outcomes, write_record
from pmqbench.reporting.collect import collect, write_table
from pmqbench.reporting.comparisons import compare_all
from pmqbench.reporting.leaderboard import join_suites, write_leaderboards
from pmqbench.reporting.page.contents import joint_contents, read_csv
from pmqbench.reporting.page.render import render_page
from pmqbench.reporting.statistics import summarise
from pmqbench.reporting.tables import write_tables
from pmqbench.submissions.submit import submit
from pmqbench.workflow.layout import DATA, REPORTS, Layout
from pmqbench.workflow.reports import Reports

TASKS = ("digits", "textures")
N = 203
BASE_BYTES = 3_200_000
LEVELS = {"base": 0.5, "expert": 0.95, "merged": 0.7, "rtn": 0.62, "gptq": 0.66, "epmq": 0.69}
CONFIG = {
    "suite": "small",
    "family": "open_clip",
    "base": {"source": "mini"},
    "experts": {"source": "mini"},
    "tasks": list(TASKS),
    "seeds": [0, 1],
    "bits": [4, 2],
    "merges": {"ta": {"method": "task_arithmetic"}, "ties-val": {"method": "ties", "tune_scaling": [0.3, 1.0]}},
    "quantizers": {
        "rtn": {"method": "rtn"},
        "gptq": {"method": "gptq"},
        "epmq": {"method": "epmq", "tune": {"anchor": [0.1, 1.0]}},
    },
    "reference": "gptq",
    "targets": {"seeds": {"training_seeds": [0, 1], "quantizers": ["gptq", "epmq"]}},
}


def outcomes(level, task, name):
    """Right are the examples that are easy enough; models agree on most."""
    difficulty = np.random.default_rng(zlib.crc32(task.encode())).random(N)
    return difficulty + 0.05 * np.random.default_rng(zlib.crc32(f"{name}{task}".encode())).standard_normal(N) < level


def record_of(model, task):
    """A record as evaluation writes it."""
    name = model.quantizer.name if model.quantizer else model.kind
    bits = model.names["bits"]
    correct = outcomes(LEVELS[name] - 0.02 * (bits == 2), task, model.id)
    value = float(correct.mean())
    size = BASE_BYTES * (bits + 1) // 32 if model.quantizer else BASE_BYTES
    costs = Costs(2.0, 16 if model.seed is not None else 0, bool(model.names["chosen"]))
    inputs = {name: f"{zlib.crc32(name.encode()):064x}" for name in ("base", *TASKS)}
    made = {"recipe": {}, "inputs": inputs | {"data": task_data[task]}, "code": "c0de", "versions": {"torch": "2"}}
    made["weights"] = f"{zlib.crc32(model.id.encode()):064x}"
    error = float(np.sqrt(value * (1 - value) / N))
    packed = pack_outcomes(correct)
    return Record(
        model.id,
        model.kind,
        task,
        model.seed,
        "accuracy",
        value,
        N,
        error,
        1.0,
        packed,
        size,
        0.1,
        9.0,
        made | {"tensors": model.id},
        costs,
    ), made


task_data: dict[str, str] = {}


def write_results(layout):
    """Data, manifests and records of all models, and the report."""
    task_data.update({task.name: task.data_id for task in layout.suite.tasks})
    for task in layout.suite.tasks:
        path = Path(layout.split_file(task, "test"))
        path.parent.mkdir(parents=True)
        path.write_text(f"the test split of {task.name}")
    for model in layout.models.values():
        for task in model.tasks:
            record, made = record_of(model, task)
            write_record(layout.record_file(model, layout.tasks[task]), record)
        stated = {"size_bytes": record.size_bytes, "files": {"weights": made["weights"]}}
        write_sealed(Path(model.folder) / "manifest.json", made | stated)
    report = Path(REPORTS) / layout.suite.name
    records = collect(layout.suite.name, Reports(layout).record_rows(SimpleNamespace(report=layout.suite.name)))
    write_table(report / "records.parquet", records)
    summary = summarise(records, TASKS)
    named = {"csv": "leaderboard.csv", "markdown": "leaderboard.md", "comparisons": "comparisons.csv", "mcnemar": "mcnemar.csv"}
    write_tables(summary, compare_all(summary, "gptq"), [], **{kind: report / name for kind, name in named.items()})


@pytest.fixture(scope="session")
def suite():
    return load_suite(CONFIG)


@pytest.fixture(scope="session")
def results(suite, tmp_path_factory):
    """The folder that has `results/`."""
    folder, before = tmp_path_factory.mktemp("small"), Path.cwd()
    os.chdir(folder)
    try:
        write_results(Layout(suite))
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(results, monkeypatch):
    """Works where the results are."""
    monkeypatch.chdir(results)
    return results


@pytest.fixture
def sent(suite, here, tmp_path):
    """`sent(row)` -> the file of the entry of a local row, which `make submit` wrote."""
    return lambda row: submit(suite, "all", row, "Ada Lovelace", "https://example.org/ada", folder=tmp_path / "entries")


def changed(path, change):
    """Edits the JSON of an entry in place."""
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    return path


def with_outcomes(told, level):
    """Other outcomes in every run of an entry, with the values that they give."""
    for run in told["runs"]:
        for task, result in run["results"].items():
            correct = outcomes(level, task, f"other{run['seed']}")
            value = float(correct.mean())
            error = float(np.sqrt(value * (1 - value) / N))
            result |= {"value": value, "standard_error": error, "correct": pack_outcomes(correct)}


def as_third_party(told):
    """The entry of a local row -> one of a method whose code nobody has."""
    told |= {"quantizer": "secret", "code_included": False}
    told["recipe"] |= {"model": None, "quantizer": {"method": "secret", "options": {"bits": told["bits"]}}}
    with_outcomes(told, 0.8)


@pytest.fixture
def third_party(sent):
    """The file of an entry without code, in an otherwise empty folder."""
    return changed(sent("ta/gptq/4"), as_third_party)


@pytest.fixture
def join(here):
    """`join(files)` -> the joint leaderboard; `join(files, {})` without any local results."""
    local = {"small": here / REPORTS / "small"}
    return lambda files, reports=local: join_suites(reports, files, here / DATA)


def row(table, **names):
    for column, value in names.items():
        table = table[table[column] == value]
    (found,) = table.to_dict("records")
    return found


def shown(joint, folder):
    """The CSV's rows, the Markdown and the page's rows."""
    write_leaderboards(joint, folder / "all.csv", folder / "all.md")
    contents = joint_contents(read_csv(folder / "all.csv"), {}, joint.warnings)
    names = [column["name"] for column in contents["columns"]]
    page = [dict(zip(names, cells, strict=True)) for cells in contents["rows"]]
    return list(csv.DictReader((folder / "all.csv").open())), (folder / "all.md").read_text(), page, render_page(contents)


def unknown(told):
    """A method that the project lacks, with the hash of its recipe."""
    recipe = told["recipe"]
    recipe["quantizer"]["method"] = "gqtq"
    recipe["model"] = recipe["model"].rpartition("/")[0] + "/gqtq-" + hash8(recipe["quantizer"])
