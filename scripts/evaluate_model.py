"""Evaluates models on tasks: one record per model and task."""

import time
from pathlib import Path

from safetensors.torch import load_file

from pmqbench.evaluation.zero_shot import classify
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json
from pmqbench.jobs import device_name, run_job, start_torch
from pmqbench.records import Record, pack_outcomes, peak_memory_mb, provenance, write_record
from pmqbench.tasks.splits import load_split


def main(job):
    device = start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    splits = [
        (task, load_file(head), *load_split(data))
        for task, head, data in zip(job.params.tasks, job.input.heads, job.input.data, strict=True)
    ]
    outputs = iter(job.output)
    for folder in map(Path, job.params.folders):
        manifest = read_json(folder / "manifest.json")
        model = family.build(folder, str(folder)).to(device)
        for task, head, images, labels in splits:
            started = time.perf_counter()
            outcome = classify(model, head, images, labels, job.params.batch_size, device, f"{folder}, task {task}")
            path = Path(next(outputs))
            record = Record(
                model=path.parent.relative_to("results/evaluations").as_posix(),
                kind={"base": "base", "experts": "expert", "merged": "merged", "quantized": "quantized"}[path.parts[2]],
                task=task,
                seed=manifest["recipe"].get("seed"),
                metric="accuracy",
                value=outcome.accuracy,
                n=len(labels),
                standard_error=outcome.standard_error,
                loss=outcome.loss.double().mean().item(),
                correct=pack_outcomes(outcome.correct.numpy()),
                size_bytes=manifest["size_bytes"],
                seconds=round(time.perf_counter() - started, 4),
                peak_memory_mb=peak_memory_mb(),
                provenance=provenance(
                    manifest["recipe"], manifest["inputs"], job.params.code, device_name(device), job.threads
                ),
            )
            write_record(path, record)


run_job(main, snakemake)
