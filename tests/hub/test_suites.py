"""The paper's CLIP suites against the stand-in of the hub: the shipped configs, through the Snakefile, to the report."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest
import yaml

from pmqbench.config import load_checked
from pmqbench.config_files import read_file
from pmqbench.tasks.definitions import list_names, load_task
from pmqbench.workflow.estimate import Estimate
from tests.hub.conftest import environment
from tests.hub.content import ROOT, VISION, data_files, expert_files, publish
from tests.hub.server import Fault, Hub

B32 = "clip-vit-b32-ta8"
SMALL = {
    "seeds": [0],
    "group_sizes": ["channel"],
    "calibration": {"samples": 4},
    "batch_jobs": True,
}
"""Fewer seeds, groups and samples than the paper's, so that a suite runs in a minute; recipes are the suite's own."""
FEW = SMALL | {
    "merges": {"ties": None},
    "quantizers": {"awq": None, "gptq": None, "epmq-expert": None},
    "reference": "rtn",
    "targets": {"methods": None, "ablations": None},  # they name what is taken away
}


class Run:
    """A working folder, a cache and a hub of its own."""

    def __init__(self, hub, folder):
        self.hub, self.work, self.home = hub, folder / "work", folder / "hf"
        self.work.mkdir()
        self.smaller(SMALL)

    def smaller(self, config):
        (self.work / "small.yaml").write_text(yaml.safe_dump(config))

    def snakemake(self, suite, *arguments, code=0, small=True):
        configs = [str(ROOT / "config" / f"{suite}.yaml"), *(["small.yaml"] if small else [])]
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2", *arguments]
        done = subprocess.run(
            [*command, "--configfile", *configs],
            cwd=self.work,
            env=environment(self.hub, self.home),
            capture_output=True,
            text=True,
            timeout=600,
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output[-6000:]
        return output

    def only_tasks(self, *names):
        self.smaller(FEW | {"tasks": list(names)})

    def manifests(self):
        return {p.parent.name: json.loads(p.read_text()) for p in self.work.glob("results/experts/*/manifest.json")}


@pytest.fixture(scope="module")
def content():
    """What the stand-in serves for the ta8 suite, made once."""
    hub = Hub()
    publish(hub, B32)
    return hub.repositories


@pytest.fixture
def run(content, hub, tmp_path):
    hub.repositories.update(content)
    return Run(hub, tmp_path)


@pytest.fixture(scope="module")
def finished(content, tmp_path_factory):
    with Hub() as hub:
        hub.repositories.update(content)
        run = Run(hub, tmp_path_factory.mktemp("ta8"))
        hub.faults.append(Fault("clip-vit-base-patch32_gtsrb/resolve.*safetensors", cut=True))
        run.snakemake(B32)
        yield run


def test_the_ta8_suite_runs_to_its_report(finished):
    table = pd.read_csv(finished.work / f"results/suites/{B32}/leaderboard.csv")
    assert set(list_names("ta8", "tasks")) <= set(table.columns)
    ranked = table[table["rank"].notna()]
    assert set(ranked["quantizer"]) == {"full precision", "rtn", "gptq", "awq", "epmq", "epmq-expert"}
    assert set(ranked["merge"]) == {"ta", "ties"}
    assert table[sorted(list_names("ta8", "tasks"))].notna().all().all()
    assert len(list(finished.work.glob("results/heads/*/*.safetensors"))) == 8


def test_random_experts_do_not_pass_the_gate_and_every_published_number_is_compared(finished):
    numbers = pd.read_csv(finished.work / f"results/suites/{B32}/reproduction.csv")
    settings = set(numbers["setting"])
    assert {"pre-trained", "individual", "Task Arithmetic 0.3", "TIES 0.3"} <= settings
    quantized = numbers[numbers["kind"] == "quantized"]
    assert set(quantized["merge"].dropna()) <= {"ta", "ties"}
    experts = numbers[(numbers["kind"] == "expert") & (numbers["task"] != "average")]
    assert len(experts) == 8
    assert "differs" in set(experts["verdict"])
    assert (
        "experts differ from their published numbers" in (finished.work / f"results/suites/{B32}/reproduction.md").read_text()
    )
    assert "points where" in (finished.work / f"results/logs/check_experts/{B32}.log").read_text()


def test_the_tall20_suite_runs_to_its_report(tmp_path):
    """Data and heads of the 12 tasks that ta8 has not; the way from there, which is one for all, with three of them."""
    name = "clip-vit-b32-tall20"
    tasks = [task for task in list_names("tall20", "tasks") if task not in list_names("ta8", "tasks")]
    assert len(tasks) == 12
    with Hub() as hub:
        publish(hub, name)
        run = Run(hub, tmp_path)
        run.only_tasks(*tasks)
        run.snakemake(name, "--until", "prepare_task", "build_heads")
        assert len(list(run.work.glob("results/data/*/manifest.json"))) == 12
        assert len(list(run.work.glob("results/heads/*/*.safetensors"))) == 12
        run.only_tasks(*tasks[::5])
        run.snakemake(name)
    table = pd.read_csv(run.work / f"results/suites/{name}/leaderboard.csv")
    assert set(table["quantizer"]) == {"full precision", "rtn", "epmq"}
    assert table[tasks[::5]].notna().all().all()
    records = [json.loads(path.read_text()) for path in run.work.glob("results/evaluations/**/*.json")]
    assert len(records) == 3 + 3 + 3 * 3


def test_only_what_is_used_was_fetched(finished):
    fetched = finished.hub.fetched("resolve")
    assert not [path for path in fetched if re.search(r"contrast|pytorch_model|base-patch32_.*README", path)]
    experts = [path for path in fetched if "tanganke/clip-vit" in path]
    assert len({path for path in experts if path.endswith("model.safetensors")}) == 8
    assert not [path for path in experts if not re.search(r"model\.safetensors|config\.json", path)]


def test_manifests_know_the_commits(finished):
    made = {manifest["recipe"]["repository"]: manifest["recipe"]["commit"] for manifest in finished.manifests().values()}
    assert made == {name: repo.commit for (kind, name), repo in finished.hub.repositories.items() if kind == "models"}
    logs = [path.read_text() for path in finished.work.glob("results/logs/fetch_expert/*.log")]
    assert len(logs) == 8
    assert all("is not pinned; it is commit" in log for log in logs)
    (base,) = (path.read_text() for path in finished.work.glob("results/logs/fetch_base/*.log"))
    assert "pinned" not in base


def test_another_test_split_is_a_warning(finished):
    (log,) = (path.read_text() for path in finished.work.glob("results/logs/prepare_task/mnist-*.log"))
    assert "16 test examples; the published split has 10000" in log


def broken_data(run, name, message, **changed):
    task, other = load_task(name), load_task("dtd")
    run.hub.add("datasets", task.source["id"], data_files(task, **changed))
    data = [f"results/data/{each.data_id}/test.safetensors" for each in (task, other)]
    output = run.snakemake(B32, "--keep-going", *data, code=1)
    assert re.search(message, output)
    assert "Traceback" not in output
    assert [(run.work / path).exists() for path in data] == [False, True]
    run.hub.add("datasets", task.source["id"], data_files(task))
    run.snakemake(B32, *data)
    assert (run.work / data[0]).exists()


def test_a_missing_column(run):
    broken_data(
        run,
        "mnist",
        r"task mnist, split train, \S+parquet: there is no column \"label\"; there are: image, digit",
        label="digit",
    )


def test_a_wrong_number_of_classes(run):
    broken_data(run, "svhn", "task svhn, split train: the data set has 9 classes, the task 10", classes=9)


def test_an_expert_of_another_shape(run):
    name = "tanganke/clip-vit-base-patch32_dtd"
    good = run.hub.repositories["models", name]
    run.hub.add("models", name, expert_files(narrow_tower(), 0, intermediate_size=128))
    run.only_tasks("mnist", "dtd")
    output = run.snakemake(B32, "--until", "merge_experts", code=1)
    assert re.search(r"error in fetch_expert: expert dtd: mlp_width is 128, in the base 256\.", output)
    assert not list(run.work.glob("results/merged/*/*.safetensors"))
    run.hub.repositories["models", name] = good
    for folder in run.work.glob("results/experts/*_dtd-*"):
        shutil.rmtree(folder)
    run.snakemake(B32, "--until", "merge_experts")
    assert len(list(run.work.glob("results/merged/*/manifest.json"))) == 1


def narrow_tower():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(CLIPVisionConfig(**VISION | {"intermediate_size": 128})).state_dict()


def test_a_missing_expert_stops_only_itself(run):
    del run.hub.repositories["models", "tanganke/clip-vit-base-patch32_svhn"]
    run.only_tasks("mnist", "svhn")
    output = run.snakemake(B32, "--keep-going", "--until", "fetch_expert", code=1)
    assert "model tanganke/clip-vit-base-patch32_svhn: there is no such repository, or it is private." in output
    assert [name.split("_")[1].split("-")[0] for name in run.manifests() if "_" in name] == ["mnist"]


@pytest.mark.parametrize(("suite", "tasks"), [("ta8", 8), ("tall14", 14), ("tall20", 20)])
@pytest.mark.parametrize("model", ["b32", "l14"])
def test_jobs_of_all_clip_suites(model, suite, tasks, monkeypatch, tmp_path):
    """As an estimate counts them, which are those that Snakemake plans (below, and in tests/workflow/test_estimate.py)."""
    monkeypatch.chdir(tmp_path)
    merges, seeds, groups, calibrated = 2, 3, 2, 4
    many = {
        "prepare_task": tasks,
        "fetch_expert": tasks,
        "build_heads": tasks,
        "merge_experts": merges,
        "quantize_model": merges * groups,
        "calibrate_model": merges * groups * calibrated * seeds,
        "evaluate_model": tasks * (1 + merges + merges * groups * (1 + calibrated * seeds)),
        "evaluate_expert": tasks,
    }
    planned = counted(f"clip-vit-{model}-{suite}", "all")
    assert {rule: count for rule, count in planned.items() if count > 1} == many
    assert {"fetch_base", "check_experts", "compare_published", "rank_models", "track_runs"} <= planned.keys()


def counted(suite, target):
    config = ROOT / "config" / f"{suite}.yaml"
    jobs = Estimate(load_checked(read_file(config).value, [config]), target, cores=2).jobs
    return Counter(job.rule for job in jobs.values())


@pytest.mark.parametrize(("suite", "target"), [("clip-vit-l14-tall20", "all"), (B32, "ablations")])
def test_dry_runs(run, suite, target, monkeypatch):
    monkeypatch.chdir(run.work)
    output = run.snakemake(suite, target, "-n", "--quiet", "rules", small=False)
    planned = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}
    assert planned.pop("total") == sum(planned.values())
    assert planned.pop(target) == 1
    assert planned == counted(suite, target)
    assert run.hub.requests == []


def test_jobs_of_the_sweeps(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert counted(B32, "full")["calibrate_model"] == 2 * 2 * 4 * 4 * 3
    assert counted(B32, "ablations")["calibrate_model"] == 85 * 3
