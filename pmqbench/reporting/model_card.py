"""The model card of an exported model: recipe, accuracy, size, where it comes from, how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from pmqbench.quantization.base import UNROUNDED
from pmqbench.records import Record, mean_of
from pmqbench.reporting.citation import BIBTEX
from pmqbench.tasks.kinds.base import Task

OWN = "this model"
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
        suite: name of the suite that it was made for.
        tasks: of the suite.
        loader: class whose from_pretrained loads the model.
        arguments: keyword arguments of from_pretrained beside the folder.
        merge, quantizer, refinement: recipes as JSON; the last is None for a model that was not refined.
        seed: calibration seed, or None.
        base: where the base comes from; experts: by task.
        rows: label -> records by task: OWN first, then what to compare it with; empty for a model that was not evaluated.
        size_bytes, full_bytes: of the weights' file, and of the merged model at full precision.
        made: provenance of the quantized model.
    """

    suite: str
    tasks: Sequence[Task]
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
    rounded = options["bits"] != UNROUNDED
    width = f"{options['bits']} bits" + (" on average" if "widths" in options else "")
    grid = f"{width}, {_group(options)}, {_symmetry(options)}" if rounded else "not rounded"
    title = f"{' + '.join([card.merge['method'], *steps])}, {grid}"
    parts = [
        f"---\n{card_head(card, title, steps).to_yaml()}\n---",
        f"# {title}",
        f"{len(card.experts)} experts of one base, merged, then quantized with PMQ-Bench (post-merge quantization)"
        + (", then refined by the experts." if card.refinement else "."),
        "## Load\n\n"
        f"```python\nfrom transformers import {card.loader}\n\n"
        f"model = {card.loader}.from_pretrained({_arguments(card)})\n```\n\n"
        + (PACKED_NOTE if rounded else "A plain float32 checkpoint: calibrated, not rounded."),
        *([f"## Accuracy\n\n{_accuracy(card)}"] if card.rows else []),
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
        f"## Citation\n\nPMQ-Bench, and the paper on post-merge quantization:\n\n```bibtex\n{BIBTEX}```",
    ]
    return "\n\n".join(parts) + "\n"


def _arguments(card: Card) -> str:
    return ", ".join(['"<this folder>"', *(f"{name}={value!r}" for name, value in card.arguments.items())])


def card_head(card: Card, title: str, steps: Sequence[str]) -> ModelCardData:
    """The head: licence, tags, what the model was made of as far as it is on the hub, and its results as a model-index.

    Args:
        card: what the card says.
        title: the model's name in the model-index.
        steps: methods after the merge.
    """
    experts = sorted({origin.name for origin in card.experts.values() if origin.commit})
    rounded = card.quantizer["options"]["bits"] != UNROUNDED
    of_hub = {"base_model": [card.base.name, *experts], "base_model_relation": "quantized" if rounded else "merge"}
    results = [_result(task, card.rows[OWN][task.name]) for task in card.tasks] if card.rows else None
    return ModelCardData(
        license=card.base.license or UNKNOWN_LICENSE,
        library_name="transformers",
        tags=["model-merging", "post-merge-quantization", "compressed-tensors", card.merge["method"], *steps],
        model_name=title if results else None,
        eval_results=results,
        **(of_hub if card.base.commit else {}),
    )


def _result(task: Task, record: Record) -> EvalResult:
    """The model's result on a task; its data set by its id on the hub, if it is from there, else by the task's name."""
    low, high = record.interval()
    return EvalResult(
        task_type=task.hub_task,
        dataset_type=task.source.get("id", task.name),
        dataset_name=task.name,
        dataset_config=task.source.get("config"),
        dataset_split=task.source.get("splits", {}).get("test", "test"),
        dataset_revision=record.provenance["inputs"].get("data_commit"),
        metric_type=record.metric,
        metric_value=round(record.value, 4),
        metric_args={"confidence_level": 0.95, "confidence_interval": [round(low, 4), round(high, 4)], "examples": record.n},
    )


def _accuracy(card: Card) -> str:
    """A line a task and one for the average, in percent; intervals are those of the model itself."""
    labels = list(card.rows)
    lines = [f"| task | examples | {OWN} | 95 % interval | {' | '.join(labels[1:])} |", f"|---|{'---:|' * (len(labels) + 2)}"]
    for task in card.tasks:
        own, *others = (records[task.name] for records in card.rows.values())
        values = [f"{100 * record.value:z.2f}" for record in others]
        lines.append(_line(f"{task.name}, {own.metric}", str(own.n), own.value, own.interval(), values))
    means = [mean_of(list(records.values())) for records in card.rows.values()]
    lines.append(_line("average", "", *means[0], [f"{100 * value:z.2f}" for value, _ in means[1:]]))
    note = f"In percent, on the test splits of suite `{card.suite}`. Intervals are those of the test examples alone"
    return "\n".join(lines) + f"\n\n{note}" + ("." if card.seed is None else "; other calibration seeds give other models.")


def _line(name: str, examples: str, value: float, interval: tuple[float, float], others: Sequence[str]) -> str:
    low, high = interval
    cells = [name, examples, f"{100 * value:z.2f}", f"{100 * low:z.2f} … {100 * high:z.2f}", *others]
    return f"| {' | '.join(cells)} |"


def _group(options: Mapping[str, Any]) -> str:
    return "one scale per output channel" if options["group_size"] is None else f"groups of {options['group_size']}"


def _symmetry(options: Mapping[str, Any]) -> str:
    return "symmetric" if options["symmetric"] else "asymmetric"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in options.items())


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
