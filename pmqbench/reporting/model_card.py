"""The model card of an exported model: recipe, accuracy, size, where it comes from, how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pmqbench.quantization.base import UNROUNDED
from pmqbench.records import Record

UNKNOWN_LICENSE = "other"
PACKED_NOTE = (
    "Needs `pip install compressed-tensors`, which unpacks the weights to float32 while loading: what is saved is storage and "
    "transfer, not memory or time, unless your runtime computes on packed weights."
)


@dataclass(frozen=True)
class Origin:
    """Where a source model comes from, as its manifest tells: a name and, for the hub's, a commit; licence if it states one."""

    name: str
    commit: str | None
    license: str | None

    @classmethod
    def of(cls, manifest: Mapping[str, Any], role: str) -> Origin:
        """From a manifest written by fetch_base or fetch_expert."""
        recipe = manifest["recipe"]
        source = recipe["source"]
        name = recipe.get("repository") or f"{role}, source {source['source']}"
        return cls(name, recipe.get("commit"), recipe.get("license"))

    def __str__(self) -> str:
        return f"{self.name}" + (f" at `{self.commit}`" if self.commit else "")


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        loader: class whose from_pretrained loads the model.
        arguments: keyword arguments of from_pretrained beside the folder.
        merge, quantizer, refinement: recipes as JSON; the last is None for a model that was not refined.
        seed: calibration seed, or None.
        base: where the base comes from; experts: by task.
        rows: label -> records by task: the model first, then what to compare it with.
        size_bytes, full_bytes: of the weights' file, and of the merged model at full precision.
        made: provenance of the quantized model.
    """

    loader: str
    arguments: Mapping[str, Any]
    merge: Mapping[str, Any]
    quantizer: Mapping[str, Any]
    refinement: Mapping[str, Any] | None
    seed: int | None
    base: Origin
    experts: Mapping[str, Origin]
    rows: Mapping[str, Mapping[str, Record]]
    size_bytes: int
    full_bytes: int
    made: Mapping[str, Any]


def model_card(card: Card) -> str:
    """README.md as the hub reads it: a YAML head, then markdown."""
    method, options = card.quantizer["method"], card.quantizer["options"]
    steps = [method, *([card.refinement["method"]] if card.refinement else [])]
    on_top = {key: card.merge[key] for key in ("calibrate_singular_values",) if key in card.merge}
    merge_options = {**card.merge["options"], **on_top}
    head: dict[str, Any] = {
        "license": card.base.license or UNKNOWN_LICENSE,
        "library_name": "transformers",
        "tags": ["model-merging", "post-merge-quantization", "compressed-tensors", *steps],
    }
    if card.base.commit:
        head["base_model"] = [card.base.name, *sorted(origin.name for origin in card.experts.values() if origin.commit)]
        head["base_model_relation"] = "merge"
    rounded = options["bits"] != UNROUNDED
    width = f"{options['bits']} bits" + (" on average" if "widths" in options else "")
    grid = f"{width}, {_group(options)}, {_symmetry(options)}" if rounded else "not rounded"
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {' + '.join([card.merge['method'], *steps])}, {grid}",
        f"{len(card.experts)} experts of one base, merged, then quantized with PMQ-Bench (post-merge quantization)"
        + (", then refined by the experts." if card.refinement else "."),
        "## Load\n\n"
        f"```python\nfrom transformers import {card.loader}\n\n"
        f"model = {card.loader}.from_pretrained({_arguments(card)})\n```\n\n"
        + (PACKED_NOTE if rounded else "A plain float32 checkpoint: calibrated, not rounded."),
        f"## Accuracy\n\n{_accuracy(card.rows)}",
        f"## Size\n\n{card.size_bytes:,} bytes; the merged model at full precision has {card.full_bytes:,}: "
        f"{card.full_bytes / card.size_bytes:.2f} times as many.",
        "## Recipe\n\n"
        + _table(
            [
                ("merge", f"`{card.merge['method']}` {_options(merge_options)}"),
                ("quantizer", f"`{method}` {_options(options)}"),
                *(
                    [("refinement", f"`{card.refinement['method']}` {_options(card.refinement['options'])}")]
                    if card.refinement
                    else []
                ),
                ("calibration seed", "none enters" if card.seed is None else str(card.seed)),
                ("base", str(card.base)),
                *((f"expert {task}", str(origin)) for task, origin in card.experts.items()),
            ]
        ),
        "## Provenance\n\n"
        + _table(
            [
                ("project commit", f"`{card.made['git_commit']}`"),
                ("code", f"`{card.made['code']}`"),
                ("device", str(card.made["device"])),
                ("versions", ", ".join(f"{name} {version}" for name, version in card.made["versions"].items())),
                *((f"sha256 of {name}", f"`{digest}`") for name, digest in card.made["inputs"].items()),
            ]
        ),
        "## Licence\n\n"
        + (f"That of the base, `{card.base.license}`." if card.base.license else "The base states none: ask its owners.")
        + " The experts may have terms of their own.",
    ]
    return "\n\n".join(parts) + "\n"


def _arguments(card: Card) -> str:
    return ", ".join(['"<this folder>"', *(f"{name}={value!r}" for name, value in card.arguments.items())])


def _accuracy(rows: Mapping[str, Mapping[str, Record]]) -> str:
    tasks = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(tasks)} | average |", f"|---|{'---:|' * (len(tasks) + 1)}"]
    for label, records in rows.items():
        values = [100 * records[task].value for task in tasks]
        cells = [f"{value:z.2f}" for value in (*values, sum(values) / len(values))]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    metrics = sorted({record.metric for records in rows.values() for record in records.values()})
    counts = ", ".join(f"{task} {record.n}" for task, record in next(iter(rows.values())).items())
    return "\n".join(lines) + f"\n\n{', '.join(metrics)} in percent on the evaluation split; examples: {counts}."


def _group(options: Mapping[str, Any]) -> str:
    return "one scale per output channel" if options["group_size"] is None else f"groups of {options['group_size']}"


def _symmetry(options: Mapping[str, Any]) -> str:
    return "symmetric" if options["symmetric"] else "asymmetric"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in options.items())


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
