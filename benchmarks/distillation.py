"""What a step of expert distillation costs against the floor of three forwards: `python -m benchmarks.distillation`.

A step's floor is the student's forward pass, which the backward pass repeats twice in work. Models have the suites' real shapes
(`--model`), random weights and inputs, and are rounded to nearest first; the run has a process of its own, whose peak memory
counts. Ratios of one call compare; seconds of two calls on a shared machine do not.

    python -m benchmarks.distillation                                  # B/32, 2 experts, 32 samples each, 4 steps of 32
    python -m benchmarks.distillation --model flan-t5-base --checkpointing
    python -m benchmarks.distillation --experts 8 --samples 256 --steps 1000 --precision bfloat16     # on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clock import synchronise
from benchmarks.shapes import MODELS, experts, first_blocks, inputs, merge_models, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.provenance import peak_memory_mb


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One distillation in this process; what it took."""
    import torch

    from pmqbench.quantization.calibrate import quantize_model
    from pmqbench.quantization.layer_record import peak_memory_mb as peak_on
    from pmqbench.quantization.methods.rtn import Rtn
    from pmqbench.quantization.streams import computing_in
    from pmqbench.refinement.distillation import Training
    from pmqbench.refinement.engine import refine
    from pmqbench.refinement.methods.distill import Distill
    from pmqbench.refinement.samples import Samples
    from pmqbench.refinement.teachers import points
    from pmqbench.torch_setup import start_torch

    device = start_torch(options.threads)
    family_name, config = MODELS[options.model][0], first_blocks(MODELS[options.model][1], options.blocks)
    tasks = task_names(options)
    calibration = {task: inputs(family_name, config, options.samples, options.batch, seed) for seed, task in enumerate(tasks)}
    model = FAMILIES.get(family_name)().build(folder / "merged").to(device)
    codes = quantize_model(model, Rtn(), {}, {}).codes
    taken: list[tuple[float, float]] = []  # of each step: itself, and a forward pass right behind it
    method = Distill(
        calibration_samples=options.samples,
        steps=options.steps,
        batch_size=options.batch,
        forward_precision=options.precision,
        checkpointing=options.checkpointing,
        evaluations=1,
    )
    step, batch = Training.descend, Samples.of(calibration).take(torch.arange(options.batch))

    def forward() -> None:
        with torch.no_grad(), computing_in(options.precision, device):
            points(model, batch, True)

    def timed(training: Training) -> None:
        taken.append((seconds_of(lambda: step(training)), seconds_of(forward)))

    Training.descend = timed
    given, began = experts(folder, family_name, tasks, device), time.perf_counter()
    refine(model, codes, method, calibration, given, seed=0, state=None, identity="")
    synchronise()
    warm = taken[1:] or taken
    return {
        "device": device,
        "seconds": time.perf_counter() - began - sum(seconds for _, seconds in taken),
        "step": median(step for step, _ in warm),
        "forward": median(forward for _, forward in warm),
        "ratio": median(step / (3 * forward) for step, forward in warm),
        "mb": peak_on(torch.device(device)) if device == "cuda" else peak_memory_mb(),
    }


def seconds_of(work: Any) -> float:
    """Wall time of a call, its work on a GPU included."""
    synchronise()
    began = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - began


def task_names(options: argparse.Namespace) -> list[str]:
    """Names of the synthetic tasks."""
    return [f"task{index}" for index in range(options.experts)]


def main() -> None:
    """Runs what was asked for and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-b-32")
    parser.add_argument("--experts", type=int, default=2)
    parser.add_argument("--samples", type=int, default=32, help="calibration samples a task (32)")
    parser.add_argument("--batch", type=int, default=32, help="samples a step (32)")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--blocks", type=int, help="only so many blocks (all)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (all)")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--worker", nargs=2, metavar=("RUN", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, folder = options.worker[0], Path(options.worker[1])
        if name == "write":
            family, config = MODELS[options.model]
            write_models(folder, family, first_blocks(config, options.blocks), task_names(options))
            merge_models(folder, family, task_names(options))
        else:
            (folder / "figures.json").write_text(json.dumps(run(options, folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("write", "run"):
            command = [sys.executable, "-m", "benchmarks.distillation", *sys.argv[1:], "--worker", name, folder]
            subprocess.run(command, check=True)
        figures = json.loads((Path(folder) / "figures.json").read_text())
    sys.stdout.write(
        f"{options.model}, {options.experts} experts of {options.samples} samples, {options.steps} steps of {options.batch}, "
        f"{options.precision}, {figures['device']}: {figures['seconds']:.1f} s, {figures['mb'] / 1000:.2f} GB peak\n"
        f"  step {figures['step']:.3f} s, floor (3 forwards) {3 * figures['forward']:.3f} s, ratio {figures['ratio']:.2f}\n"
    )


if __name__ == "__main__":
    main()
