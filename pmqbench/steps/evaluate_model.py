"""Evaluates models on tasks: one record per model and task."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pmqbench.costs import Costs
from pmqbench.evaluation.base import PROTOCOLS, Assets
from pmqbench.evaluation.guard import FINGERPRINT, check_model, check_score
from pmqbench.families.base import FAMILIES
from pmqbench.heartbeat import each
from pmqbench.integrity import checksum, read_manifest, read_sealed
from pmqbench.jobs import device_name, taken_warnings
from pmqbench.provenance import peak_memory_mb, provenance
from pmqbench.records import Record, pack_outcomes, write_record
from pmqbench.torch_setup import start_torch


def main(job: Any) -> None:
    """Evaluates models on tasks: one record per model and task."""
    device = start_torch(job.threads, job.resources.get("gpu", 1))
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    protocol = PROTOCOLS.get(family.protocol)()
    splits = [(task, protocol.examples(Path(task["split"]), Assets.of(task))) for task in plan["tasks"]]
    data_manifests = {task["name"]: read_sealed(task["manifest"]) for task, _ in splits}
    for wanted in each(plan["models"], "models"):
        folder = Path(wanted["folder"])
        manifest, weights = read_manifest(folder), {"weights": checksum(folder / family.weights_file)}
        model = family.build(folder, str(folder)).to(device)
        weights |= {FINGERPRINT: check_model(model, family.checkpoint(folder), folder, manifest["recipe"])}
        for path, (task, examples) in each(zip(wanted["records"], splits, strict=True), "tasks"):
            started = time.perf_counter()
            where = f"{folder}, task {task['name']}"
            score = protocol.evaluate(model, examples, task["metric"], plan["batch_size"], device, where)
            about = data_manifests[task["name"]]
            check_score(score, about["examples"]["test"], where)
            data = {"data": task["data_id"]} | ({"data_commit": about["commit"]} if about["commit"] else {})
            made = provenance(manifest["recipe"], manifest["inputs"] | data, job.params.code, device_name(device), job.threads)
            record = Record(
                model=wanted["id"],
                kind=wanted["kind"],
                task=task["name"],
                seed=wanted["seed"],
                metric=task["metric"],
                value=score.value,
                n=score.n,
                standard_error=score.standard_error,
                loss=score.loss,
                correct=None if score.correct is None else pack_outcomes(score.correct),
                size_bytes=manifest["size_bytes"],
                seconds=round(time.perf_counter() - started, 4),
                peak_memory_mb=peak_memory_mb(),
                provenance=made | weights,
                costs=Costs.from_manifest(manifest),
                warnings=taken_warnings(),
            )
            write_record(path, record)
