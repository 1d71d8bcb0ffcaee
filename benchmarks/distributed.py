"""What several processes gain on one machine, one job after the other: `python -m benchmarks.distributed`.

E-PMQ and distillation on models of the suites' real shapes (`--model`): in one process with all threads, in one with those
that each of several has, in `--processes` that share them. Times are of the work alone: not of imports, reading and
start. Ratios of one call compare; seconds of two calls on a shared machine do not. Where others keep the machine busy, core
seconds tell more: of the busiest process, they are what the work would take alone.

    python -m benchmarks.distributed                                       # a block of B/32, 4 experts, 64 samples each
    python -m benchmarks.distributed --model vit-l-14 --experts 8 --samples 256 --blocks 24 --processes 4 --threads 32
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
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.clock import synchronise
from benchmarks.shapes import MODELS, experts, first_blocks, inputs, merge_models, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json, write_json
from pmqbench.provenance import peak_memory_mb

if TYPE_CHECKING:
    from pmqbench.distributed import World

WORK = ("calibrate", "distil")


def calibrate(job: Any, world: World) -> None:
    """E-PMQ at 4 bits."""
    from pmqbench.quantization.calibrate import quantize_model
    from pmqbench.quantization.methods.epmq import Epmq

    model, given, calibration = _parts(job, world)

    def work() -> None:
        quantize_model(model, Epmq(), calibration, given, None, world)

    _time(job, world, work)


def distil(job: Any, world: World) -> None:
    """Distillation of the model rounded to nearest."""
    from pmqbench.quantization.calibrate import quantize_model
    from pmqbench.quantization.methods.rtn import Rtn
    from pmqbench.refinement.engine import refine
    from pmqbench.refinement.methods.distill import Distill

    model, given, calibration = _parts(job, world)
    codes = quantize_model(model, Rtn(), {}, {}).codes
    method = Distill(steps=job.params.plan["steps"], batch_size=job.params.plan["batch"], evaluations=1)

    def work() -> None:
        refine(model, codes, method, calibration, given, seed=0, state=None, identity="", world=world)

    _time(job, world, work)


def _parts(job: Any, world: World) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Model, experts, and the calibration of this process's tasks."""
    from pmqbench.torch_setup import start_torch

    plan, device = job.params.plan, start_torch(job.threads)
    name, config = MODELS[plan["model"]][0], first_blocks(MODELS[plan["model"]][1], plan["blocks"])
    folder, tasks = Path(plan["folder"]), plan["tasks"]
    own = {task: inputs(name, config, plan["samples"], 32, tasks.index(task)) for task in world.own(tasks)}
    return FAMILIES.get(name)().build(folder / "merged").to(device), experts(folder, name, tasks, device), own


def _time(job: Any, world: World, work: Any) -> None:
    """Seconds from where all processes begin, each one's core seconds and peak of memory, into the plan's file."""
    world.all_of([None])
    began, cores = time.perf_counter(), time.process_time()
    work()
    synchronise()
    seconds, cores, peaks = (
        time.perf_counter() - began,
        world.all_of([time.process_time() - cores]),
        world.all_of([peak_memory_mb()]),
    )
    if world.is_main:
        write_json(job.params.plan["figures"], {"seconds": seconds, "cores": cores, "mb": peaks})


def main() -> None:
    """Runs what was asked for and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-b-32")
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=64, help="calibration samples a task (64)")
    parser.add_argument("--blocks", type=int, default=1, help="only so many blocks (1)")
    parser.add_argument("--steps", type=int, default=8, help="steps of distillation (8)")
    parser.add_argument("--batch", type=int, default=32, help="samples a step (32)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of all processes together (all)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run(json.loads(options.worker))
        return
    name, config = MODELS[options.model]
    tasks = [f"task{index}" for index in range(options.experts)]
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), name, first_blocks(config, options.blocks), tasks)
        merge_models(Path(folder), name, tasks)
        share = max(1, options.threads // options.processes)
        for work in WORK:
            taken = {}
            for processes, threads in ((1, options.threads), (1, share), (options.processes, options.threads)):
                plan = {
                    **vars(options),
                    "folder": folder,
                    "tasks": tasks,
                    "processes": processes,
                    "figures": f"{folder}/figures",
                }
                worker = json.dumps({"work": work, "threads": threads, "plan": plan})
                subprocess.run([sys.executable, "-m", "benchmarks.distributed", "--worker", worker], check=True)
                figures = read_json(f"{folder}/figures")
                taken[processes, threads] = figures["seconds"]
                busy = [
                    f"{cores:.1f} core s, {mb / 1000:.2f} GB" for cores, mb in zip(figures["cores"], figures["mb"], strict=True)
                ]
                what = f"{work}: {processes} processes, {threads} threads: {figures['seconds']:.1f} s"
                sys.stdout.write(f"{what} ({'; '.join(busy)})\n")
            several = taken[options.processes, options.threads]
            sys.stdout.write(
                f"  {options.processes} processes are {taken[1, options.threads] / several:.2f} times as fast as one with "
                f"{options.threads} threads, {taken[1, share] / several:.2f} times as fast as one with {share}\n"
            )
            sys.stdout.flush()


def run(asked: dict[str, Any]) -> None:
    """One job."""
    from benchmarks import distributed  # by its name, under which the other processes find its functions
    from pmqbench.processes import run_spread

    job = SimpleNamespace(
        params=SimpleNamespace(plan=asked["plan"], code=""), output=[], threads=asked["threads"], resources={}
    )
    run_spread(getattr(distributed, asked["work"]), job)


if __name__ == "__main__":
    main()
