"""The constants of `pmqbench/workflow/measured.json` from finished runs, and how far its formulas are from what jobs took.

    python -m benchmarks.resources compare config/mini.yaml all RESULTS [config/mini.yaml full RESULTS ...]
    python -m benchmarks.resources fit METHODS config/mini.yaml all RESULTS [...]

RESULTS are results/ folders of finished runs of the target before them; METHODS is what `python -m benchmarks.method_costs`
printed. Starts, and what goes with columns, come from the runs of small models, where little else is to do; what goes with
products comes from one block of ViT-B/32. `fit` writes measured.json; constants that no run tells of stay as they are.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.shapes import first_blocks
from pmqbench.config import load_checked
from pmqbench.config_files import read_config
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json, write_json
from pmqbench.merging.base import MERGERS
from pmqbench.workflow import work
from pmqbench.workflow.estimate import Estimate
from pmqbench.workflow.work import MEASURED

MIB = 2**20 / 1e6
STAGES = {
    "merge": ("merge_experts",),
    "calibrate_merge": ("calibrate_merge",),
    "quantize": ("quantize_model",),
    "calibrate": ("calibrate_model", "calibrate_seeds", "calibrate_gptq", "calibrate_epmq", "calibrate_awq"),
    "refine": ("refine_model",),
    "evaluate": ("evaluate_model", "evaluate_expert", "evaluate_seeds"),
    "train_base": ("fetch_base",),
    "train_expert": ("fetch_expert",),
    "heads": ("build_heads",),
    "prepare": ("prepare_task",),
    "report": ("collect_records", "rank_models", "write_page", "plot_comparison", "track_runs"),
}
"""Constant of a start -> rules whose benchmark records tell of it."""


def runs(arguments: list[str]) -> Iterator[tuple[Estimate, Path]]:
    """Estimates, and the results of the same."""
    for config, target, results in zip(*[iter(arguments)] * 3, strict=True):
        yield Estimate(load_checked(read_config(config), [config]), target), Path(results)


def taken(results: Path) -> dict[str, list[tuple[float, float]]]:
    """Rule -> (processor seconds, peak MB) of each of its jobs."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for path in sorted((results / "benchmarks").rglob("*.jsonl")):
        record = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        rule = path.relative_to(results / "benchmarks").parts[0]
        found[rule].append((float(record["cpu_time"]), MIB * float(record["max_rss"])))
    return found


def compare(estimate: Estimate, results: Path) -> None:
    """Prints, rule by rule, the mean time and the largest memory of a job as estimated and as used."""
    used, sums = taken(results), [0.0, 0.0]
    sys.stdout.write(f"{estimate.suite.name}, {estimate.target}\n{'rule':20} jobs  seconds: estimated  used  ratio  MB\n")
    for row in estimate.rows:
        if row.rule in used:
            works = [job.work for job in estimate.jobs.values() if job.rule == row.rule]
            expected, real = fmean(one.core_seconds for one in works), fmean(seconds for seconds, _ in used[row.rule])
            memory, peak = max(one.memory_mb for one in works), max(megabytes for _, megabytes in used[row.rule])
            sums = [sums[0] + expected * row.jobs, sums[1] + real * row.jobs]
            figures = f"{expected:18.1f} {real:5.1f} {expected / real:6.2f}  {memory:.0f} {peak:.0f} {memory / peak:.2f}"
            sys.stdout.write(f"{row.rule:20} {row.jobs:4} {figures}\n")
    sys.stdout.write(f"{'all':25} {sums[0]:18.0f} {sums[1]:5.0f} {sums[0] / sums[1]:6.2f}\n")


def fit_columns(given: list[tuple[Estimate, Path]]) -> None:
    """Seconds of a column, by method, from the manifests of models that were quantized and not refined.

    Of a recipe's seeds the quickest counts: the first in a process also pays for what is loaded when it is first used.
    Manifests have wall-clock seconds; benchmark records tell which share of it jobs had a processor.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for estimate, results in given:
        model, busy = estimate.model, share_of_processor(results)
        seeds: dict[tuple[str, str], list[float]] = defaultdict(list)
        for path in results.glob("quantized/*/*/**/manifest.json"):
            manifest = read_json(path)
            if "refinement" not in manifest["recipe"]:
                method = manifest["recipe"]["quantizer"]["method"]
                learned = manifest["recipe"]["quantizer"]["options"].get("steps", 0)
                learned *= len(model.layers) * MEASURED["learned_step_seconds_per_layer"]
                seeds[method, str(path.parent.parent)].append((busy * manifest["seconds"] - learned) / model.columns)
        for (method, _), values in seeds.items():
            found[method].append(min(values))
    MEASURED["column_seconds"] |= {method: float(f"{max(0.0, median(values)):.2g}") for method, values in found.items()}


def share_of_processor(results: Path) -> float:
    """Processor seconds of jobs over their wall-clock seconds."""
    records = [json.loads(path.read_text().splitlines()[-1]) for path in (results / "benchmarks").rglob("*.jsonl")]
    return sum(float(record["cpu_time"]) for record in records) / sum(float(record["s"]) for record in records)


def fit_methods(costs: Mapping[str, Any]) -> None:
    """What goes with products and parameters, by method, from one block of ViT-B/32 with two experts."""
    from benchmarks.method_costs import BLOCKS, CONFIG, FAMILY, OPTIONS, SAMPLES, TASKS

    model = FAMILIES.get(FAMILY)().size(first_blocks(CONFIG, BLOCKS))
    speed = MEASURED["flops_per_second"]
    for name, figures in costs["quantizers"].items():
        options = OPTIONS.get(name, {})
        steps = options.get("steps", 0)
        passes = len(TASKS) * SAMPLES * 2.5 + work.TRAINING * steps * options.get("batch_size", 0)
        known = model.columns * MEASURED["column_seconds"][name] + passes * model.forward_flops / speed
        known += steps * len(model.layers) * MEASURED["learned_step_seconds_per_layer"]
        left = max(0.0, figures["cpu"] - known)
        MEASURED["solves"][name] = float(f"{left * speed / model.target_flops:.2g}")
    moved = len(TASKS) * model.parameters
    plain = costs["merges"]["task_arithmetic"]["cpu"]
    for name, figures in costs["merges"].items():
        if name in MERGERS.names() and MERGERS.get(name).calibrated:
            continue  # its start is another merge, and the rest the layer loop's
        used = figures["cpu"] - (plain if name == "calibrate_singular_values" else 0)
        MEASURED["merge_seconds_per_parameter"][name] = float(f"{used / moved:.2g}")
    MEASURED["merge_widest_input"] = model.widest_input


def fit_starts(given: list[tuple[Estimate, Path]]) -> None:
    """Starts: what jobs took beyond all else that the formulas have."""
    for stage, rules in STAGES.items():
        seconds, memory = [], []
        for estimate, results in given:
            used = taken(results)
            for rule in set(rules) & set(used) & {row.rule for row in estimate.rows}:
                works = [job.work for job in estimate.jobs.values() if job.rule == rule]
                rest = fmean(one.core_seconds for one in works) - MEASURED["start_seconds"][stage]
                seconds += [value - rest for value, _ in used[rule]]
                most = max(one.memory_mb for one in works) - MEASURED["start_mb"][stage]
                memory += [value - most for _, value in used[rule]]
        if seconds:
            MEASURED["start_seconds"][stage] = round(max(0.5, median(seconds)), 1)
            MEASURED["start_mb"][stage] = round(max(memory), -1)


def main() -> None:
    """Fits or compares."""
    command, *arguments = sys.argv[1:] or ["help"]
    if command == "compare":
        for estimate, results in runs(arguments):
            compare(estimate, results)
    elif command == "fit":
        given = list(runs(arguments[1:]))
        fit_columns(given)
        fit_methods(read_json(Path(arguments[0])))
        fit_starts([(Estimate(estimate.suite, estimate.target), results) for estimate, results in given])
        write_json(Path(work.__file__).with_name("measured.json"), MEASURED)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
