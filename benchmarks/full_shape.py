"""Seconds and peak memory of merging and quantizing at the real size: `python benchmarks/full_shape.py [--model vit-l-14]`.

Two experts of random weights go through Task Arithmetic, GPTQ and E-PMQ on synthetic inputs; shapes are those of the suites'
models, and so are time and memory. Every stage runs in a process of its own, so that its peak is its own; the
parent stays small and imports no torch, since a child's peak begins at its parent's size.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.shapes import MODELS, experts, inputs, merge_models, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json, write_json
from pmqbench.provenance import peak_memory_mb

TASKS = ("first", "second")
STAGES = {"write": "base and two experts", "merge": "Task Arithmetic 0.3", "gptq": "GPTQ, 4 bits", "epmq": "E-PMQ, 4 bits"}


def write(job: Job) -> None:
    """Base and experts of random weights."""
    logging.info("%d parameters", write_models(job.folder, job.family_name, job.config, TASKS))


def merge(job: Job) -> None:
    """Task Arithmetic of the two experts."""
    merge_models(job.folder, job.family_name, TASKS)


def quantize(method_name: str) -> Callable[[Job], None]:
    """A stage that quantizes the merged model; each block's line in the log is the progress."""

    def stage(job: Job) -> None:
        from pmqbench.quantization.base import QUANTIZERS
        from pmqbench.quantization.calibrate import quantize_model
        from pmqbench.quantization.packing import save_packed

        calibration = {
            task: inputs(job.family_name, job.config, job.samples, job.batch, seed) for seed, task in enumerate(TASKS)
        }
        model = job.family.build(job.folder / "merged", "merged model").to(job.device)
        method = QUANTIZERS.get(method_name)(calibration_samples=job.samples)
        given = experts(job.folder, job.family_name, TASKS, job.device)
        quantized = quantize_model(model, method, calibration, given)
        job.family.save(job.folder / method_name, quantized.tensors, job.folder, {})
        save_packed(job.folder / method_name / "packed.safetensors", quantized.tensors, quantized.codes)

    return stage


class Job:
    """One stage in a process of its own."""

    def __init__(self, model: str, folder: Path, samples: int, batch: int, threads: int) -> None:
        from pmqbench.torch_setup import start_torch

        self.family_name, self.config = MODELS[model]
        self.family = FAMILIES.get(self.family_name)()
        self.folder, self.samples, self.batch = folder, samples, batch
        self.device = start_torch(threads)

    def run(self, stage: str) -> None:
        """Runs a stage and writes its figures; CPU seconds, summed over threads, tell of a machine that had other work."""
        began, used = time.perf_counter(), time.process_time()
        {"write": write, "merge": merge, "gptq": quantize("gptq"), "epmq": quantize("epmq")}[stage](self)
        figures = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used, "mb": peak_memory_mb()}
        figures |= {"device": self.device, "device_mb": 0.0}
        if self.device == "cuda":
            import torch

            figures["device_mb"] = torch.cuda.max_memory_allocated() / 1e6
        write_json(self.folder / f"{stage}.json", figures)


def main() -> None:
    """Runs all stages one after the other and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vit-b-32")
    parser.add_argument("--samples", type=int, default=256, help="calibration samples a task (256)")
    parser.add_argument("--batch", type=int, default=64, help="samples per forward pass (64)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (all)")
    parser.add_argument("--worker", nargs=2, metavar=("STAGE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        logging.basicConfig(level=logging.INFO, format="  %(asctime)s %(message)s", datefmt="%H:%M:%S")
        Job(args.model, Path(args.worker[1]), args.samples, args.batch, args.threads).run(args.worker[0])
        return
    options = [
        "--model",
        args.model,
        "--samples",
        str(args.samples),
        "--batch",
        str(args.batch),
        "--threads",
        str(args.threads),
    ]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for stage, what in STAGES.items():
            sys.stderr.write(f"{args.model}: {what}\n")
            subprocess.run([sys.executable, __file__, *options, "--worker", stage, folder], check=True)
            figures = read_json(Path(folder) / f"{stage}.json")
            lines.append(
                f"{what:22} {figures['seconds']:9.1f} {figures['cpu']:9.1f} {figures['mb']:9.0f} {figures['device_mb']:9.0f}\n"
            )
    sys.stdout.write(f"{args.model}, {args.samples} samples a task, {args.threads} threads, {figures['device']}\n")
    sys.stdout.write(f"{'stage':22} {'seconds':>9} {'CPU s':>9} {'peak MB':>9} {'GPU MB':>9}\n" + "".join(lines))


if __name__ == "__main__":
    main()
