"""Evaluates models on tasks: one record per model and task."""

import time
from pathlib import Path

from pmqbench.evaluation.base import PROTOCOLS
from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json
from pmqbench.jobs import device_name, run_job, start_torch
from pmqbench.provenance import peak_memory_mb, provenance
from pmqbench.records import Record, pack_outcomes, write_record


def main(job):
    device = start_torch(job.threads)
    family = FAMILIES.get(job.params.family)()
    protocol = PROTOCOLS.get(family.protocol)()
    splits = [
        (task, metric, protocol.examples(Path(data), Path(reader)), read_json(made)["commit"] or Path(data).parent.name)
        for task, metric, data, reader, made in zip(
            job.params.tasks, job.params.metrics, job.input.data, job.input.readers, job.input.manifests, strict=True
        )
    ]
    outputs = iter(job.output)
    for folder in map(Path, job.params.folders):
        manifest = read_json(folder / "manifest.json")
        model = family.build(folder, str(folder)).to(device)
        for task, metric, examples, version in splits:
            started = time.perf_counter()
            score = protocol.evaluate(model, examples, metric, job.params.batch_size, device, f"{folder}, task {task}")
            path = Path(next(outputs))
            record = Record(
                model=path.parent.relative_to("results/evaluations").as_posix(),
                kind={"base": "base", "experts": "expert", "merged": "merged", "quantized": "quantized"}[path.parts[2]],
                task=task,
                seed=manifest["recipe"].get("seed"),
                metric=metric,
                value=score.value,
                n=score.n,
                standard_error=score.standard_error,
                loss=score.loss,
                correct=None if score.correct is None else pack_outcomes(score.correct),
                size_bytes=manifest["size_bytes"],
                seconds=round(time.perf_counter() - started, 4),
                peak_memory_mb=peak_memory_mb(),
                provenance=provenance(
                    manifest["recipe"],
                    manifest["inputs"] | {"data": version},
                    job.params.code,
                    device_name(device),
                    job.threads,
                ),
            )
            write_record(path, record)


run_job(main, snakemake)
