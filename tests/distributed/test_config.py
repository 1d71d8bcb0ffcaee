"""`processes` in a config: who spreads, what it asks for, and that it names nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake.iocontainers import Wildcards

from pmqbench.config import load_suite, read_config
from pmqbench.errors import ConfigError
from pmqbench.workflow.evaluations import Evaluations
from pmqbench.workflow.layout import Layout
from pmqbench.workflow.quantizations import Quantizations
from pmqbench.workflow.resources import JobResources
from pmqbench.workflow.stages import Stages

MINI = read_config(Path(__file__).parents[2] / "config/mini.yaml")
QUANTIZERS = {
    "gptq": {"method": "gptq", "refine": {"method": "distill"}},
    "tuned": {"method": "epmq", "tune": {"anchor": [0.1, 1.0]}},
    "block": {"method": "autoround"},
}


def workflow(processes: int, **more) -> Quantizations:
    config = {key: MINI[key] for key in ("suite", "family", "base", "experts")} | {"tasks": MINI["tasks"][:3]}
    recipes = {"merges": {"ta": {"method": "task_arithmetic"}, "rm": {"method": "regmean"}}, "quantizers": QUANTIZERS}
    suite = load_suite({**config, **recipes, "seeds": [0], "processes": processes, **more})
    return Quantizations(Stages(Layout(suite), {}.get))


def plans(processes: int) -> dict[str, int]:
    """Processes by the plan of each kind of job."""
    rules = workflow(processes)
    paths = {models[0].quantizer.name: path for path, models in rules.layout.quantized.items()}
    jobs = {name: Wildcards(fromdict={"quantized": path, "seed": "0"}) for name, path in paths.items()}
    (refined,) = (path for path in rules.layout.refined if path.startswith("taskarithmetic"))
    merge = Wildcards(fromdict={"merge": next(m for m in rules.layout.merges if m.startswith("regmean"))})
    found = {name: rules.quantizer_plan(job, None) for name, job in jobs.items()}
    found["choice"] = rules.tuning_plan(jobs["tuned"], None)
    found["refinement"] = rules.refine_plan(Wildcards(fromdict={"quantized": refined, "seed": "0"}), None)
    found["merge"] = rules.stages.merge_plan(merge, None)
    return {name: plan["processes"] for name, plan in found.items()}


def test_methods_that_can_share_tasks_do():
    assert set(plans(1).values()) == {1}
    spread = {"gptq": 3, "tuned": 3, "choice": 3, "refinement": 3, "merge": 3}
    assert plans(3) == {**spread, "block": 1}


def test_no_path_changes():
    one, three = (workflow(processes).layout for processes in (1, 3))
    assert (one.quantized.keys(), one.refined.keys(), one.merges.keys()) == (
        three.quantized.keys(),
        three.refined.keys(),
        three.merges.keys(),
    )


def test_a_device_and_memory_for_each_process():
    def asked(processes: int, quantizer: str, **more) -> dict[str, int]:
        rules = workflow(processes, **more)
        resources = JobResources(Evaluations(rules))
        path = next(path for path, models in rules.layout.quantized.items() if models[0].quantizer.name == quantizer)
        job = Wildcards(fromdict={"quantized": path, "seed": "0"})
        found = resources.of(resources.quantizer_work, 3)
        return {name: found[name](job, *([1] if name == "mem_mb" else [])) for name in ("gpu", "mem_mb")}

    assert (asked(1, "tuned")["gpu"], asked(3, "tuned")["gpu"], asked(3, "block")["gpu"]) == (1, 3, 1)
    assert asked(3, "tuned", job_gpus=0)["gpu"] == asked(3, "tuned", batch_jobs=True)["gpu"] == 0
    assert asked(1, "tuned")["mem_mb"] < asked(3, "tuned")["mem_mb"] < 3 * asked(1, "tuned")["mem_mb"]
    assert asked(1, "block") == asked(3, "block")


def test_more_processes_than_tasks_are_refused():
    with pytest.raises(ConfigError, match=r"processes: 4 processes cannot share 3 tasks\. Give 3 at most\."):
        workflow(4)
