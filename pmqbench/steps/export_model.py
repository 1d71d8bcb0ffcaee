"""Exports a quantized model: a folder that stock transformers loads, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pmqbench.families.base import FAMILIES
from pmqbench.integrity import read_manifest, read_sealed
from pmqbench.quantization.export import export_model, exported_weights
from pmqbench.records import read_record
from pmqbench.reporting.model_card import OWN, Card, Origin, model_card
from pmqbench.tasks.definitions import task_of


def main(job: Any) -> None:
    """Exports a quantized model: a folder that stock transformers loads, with a model card."""
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    folder, base = Path(job.input.packed).parent, Path(plan["base"])
    manifest, merged = read_manifest(folder), read_sealed(job.input.merged)
    quantizer = manifest["recipe"]["quantizer"]
    deployed = family.deployed(folder, base)
    tasks = [task_of(task) for task in plan["tasks"]]
    manifests = zip(tasks, job.input.experts, strict=True)
    origins = {task.name: Origin.of(read_sealed(path), f"expert {task.name}") for task, path in manifests}
    with exported_weights(Path(job.input.packed), deployed, quantizer["options"]) as weights:
        card = Card(
            suite=plan["suite"],
            tasks=tasks,
            loader=deployed.loader,
            arguments=deployed.arguments,
            merge=merged["recipe"],
            quantizer=quantizer,
            refinement=manifest["recipe"].get("refinement"),
            seed=manifest["recipe"]["seed"],
            base=Origin.of(read_manifest(base), "base"),
            experts=origins,
            rows={
                label: {record.task: record for record in map(read_record, records)}
                for name, label in (
                    ("own_records", OWN),
                    ("merged_records", "merged, full precision"),
                    ("expert_records", "its expert"),
                    ("base_records", "pre-trained base"),
                )
                if (records := job.input.get(name))
            },
            size_bytes=weights.stat().st_size,
            full_bytes=merged["size_bytes"],
            made=manifest,
        )
        export_model(Path(plan["folder"]), weights, deployed, quantizer["options"], model_card(card))
