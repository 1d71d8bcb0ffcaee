"""Exports a quantized model: a folder that stock transformers loads, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pmqbench.families.base import FAMILIES
from pmqbench.files import read_json
from pmqbench.quantization.export import export_model, exported_weights
from pmqbench.records import read_record
from pmqbench.reporting.model_card import Card, Origin, model_card


def main(job: Any) -> None:
    """Exports a quantized model: a folder that stock transformers loads, with a model card."""
    plan = job.params.plan
    family = FAMILIES.get(plan["family"])()
    folder, base = Path(job.input.packed).parent, Path(plan["base"])
    manifest, merged = read_json(folder / "manifest.json"), read_json(job.input.merged)
    quantizer = manifest["recipe"]["quantizer"]
    deployed = family.deployed(folder, base)
    origins = {
        task: Origin.of(read_json(path), f"expert {task}") for task, path in zip(plan["tasks"], job.input.experts, strict=True)
    }
    with exported_weights(Path(job.input.packed), deployed, quantizer["options"]) as weights:
        card = Card(
            loader=deployed.loader,
            arguments=deployed.arguments,
            merge=merged["recipe"],
            quantizer=quantizer,
            refinement=manifest["recipe"].get("refinement"),
            seed=manifest["recipe"]["seed"],
            base=Origin.of(read_json(base / "manifest.json"), "base"),
            experts=origins,
            rows={
                label: {record.task: record for record in map(read_record, job.input[name])}
                for name, label in (
                    ("own_records", "this model"),
                    ("merged_records", "merged, full precision"),
                    ("expert_records", "experts, each on its own task"),
                    ("base_records", "pre-trained base"),
                )
            },
            size_bytes=weights.stat().st_size,
            full_bytes=merged["size_bytes"],
            made=manifest,
        )
        export_model(Path(plan["folder"]), weights, deployed, quantizer["options"], model_card(card))
