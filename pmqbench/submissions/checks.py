"""Whether an entry agrees with itself: its numbers with its outcomes, its names with its recipe, its sizes with its bits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from pmqbench.errors import DataError
from pmqbench.files import hash8
from pmqbench.merging.base import MERGERS
from pmqbench.options import build_options
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.recipes import FULL_PRECISION_BITS
from pmqbench.refinement.base import REFINERS
from pmqbench.registry import Registry
from pmqbench.reporting.entries import EXPERTS, PRETRAINED
from pmqbench.reporting.verdicts import FULL_PRECISION
from pmqbench.submissions.schema import Entry, Result, Run, TaskData

ROUNDING = 1e-9
MOST_BITS = 16  # of a quantized model
LARGEST = 2  # times the base's size
OWN = "pmqbench."

Identity: TypeAlias = tuple[str, ...]


def check_entry(entry: Entry, file: str) -> None:
    """Raises PMQError naming the file and the field unless an entry agrees with itself."""
    check_names(entry, file)
    check_recipe(entry, file)
    if entry.code_included:
        check_code(entry, file)
    check_tasks(entry, file)
    check_seeds(entry, file)
    for field, run in named_runs(entry):
        check_run(run, entry.tasks, f"{file}: {field}")
    check_sizes(entry, file)


def identity(entry: Entry) -> Identity:
    """Hashes of what the model is made by: equal for equal recipes, whatever they are called."""
    return tuple(hash8(part) for part in entry.recipe.parts())


def identity_of(model: str) -> Identity:
    """The same of the model in a folder below results/evaluations, with or without its seed."""
    parts = model.split("/")[1:]
    return tuple(part.rpartition("-")[2] for part in parts if not part.startswith("seed-"))


def named_runs(entry: Entry) -> Iterator[tuple[str, Run]]:
    """Every run with the name of its field."""
    yield "base", entry.base
    yield from ((f"experts.{task}", run) for task, run in entry.experts.items())
    yield from ((f"runs.{place}", run) for place, run in enumerate(entry.runs))


def check_names(entry: Entry, file: str) -> None:
    """Display names tell models apart, and a merge at full precision has no grid."""
    for field, name in {"merge": entry.merge, "quantizer": entry.quantizer}.items():
        if name in (FULL_PRECISION, PRETRAINED, EXPERTS):
            raise DataError(f'"{name}" is no name for a model of your own.', where=f"{file}: {field}", remedy="Choose another.")
    if (entry.quantizer is None) != (entry.recipe.quantizer is None):
        what = "a quantizer needs both a name and a recipe; a merge at full precision has neither."
        raise DataError(what, where=f"{file}: quantizer, recipe.quantizer")
    if entry.recipe.refinement and entry.quantizer is None:
        raise DataError("what is refined must be quantized.", where=f"{file}: recipe.refinement")
    if entry.quantizer is None and (entry.bits, entry.group_size) != (FULL_PRECISION_BITS, None):
        what = f"a merge at full precision has {FULL_PRECISION_BITS} bits and no groups."
        raise DataError(what, where=f"{file}: bits, group_size")
    if entry.quantizer is not None and entry.bits > MOST_BITS:
        raise DataError(f"{entry.bits} is more than {MOST_BITS} for a quantized model.", where=f"{file}: bits")


def check_recipe(entry: Entry, file: str) -> None:
    """The recipe has the row's bits and groups, and the folder's name is made of the recipe's hashes."""
    recipe = entry.recipe
    for place, part in zip(("merge", "quantizer", "refinement"), recipe.parts(), strict=False):
        if not isinstance(part.get("method"), str) or not isinstance(part.get("options", {}), Mapping):
            raise DataError('must have a "method", and "options" as a mapping.', where=f"{file}: recipe.{place}")
    stated = (recipe.quantizer or {}).get("options", {})
    for field in ("bits", "group_size"):
        ours = getattr(entry, field)
        if field in stated and stated[field] != ours:
            what = f"is {ours} here and {stated[field]} in the recipe."
            raise DataError(what, where=f"{file}: {field}, recipe.quantizer.options.{field}")
    if recipe.model is None:
        return
    kind = "merged" if entry.quantizer is None else "quantized"
    if recipe.model.split("/")[0] != kind or identity_of(recipe.model) != identity(entry):
        what = f'"{recipe.model}" is not the folder of this recipe, whose hashes are {", ".join(identity(entry))}.'
        raise DataError(what, where=f"{file}: recipe.model", remedy="`make submit` writes both.")


def check_code(entry: Entry, file: str) -> None:
    """The project has every method of the recipe and takes its options."""
    if entry.recipe.model is None:
        raise DataError("is missing, though the code is said to be included.", where=f"{file}: recipe.model")
    registries: tuple[tuple[str, Registry[Any]], ...] = (
        ("merge", MERGERS),
        ("quantizer", QUANTIZERS),
        ("refinement", REFINERS),
    )
    methods = {
        name: method_of(getattr(entry.recipe, name), registry, f"{file}: recipe.{name}") for name, registry in registries
    }
    seeded = bool(methods["refinement"] or (methods["quantizer"] and methods["quantizer"].calibrated))
    if seeded != (entry.runs[0].seed is not None):
        what = f"calibration seeds do{'' if seeded else ' not'} enter this recipe."
        raise DataError(what, where=f"{file}: runs.0.seed")


def method_of(part: Mapping[str, Any] | None, registry: Registry[Any], where: str) -> Any:
    """A method of the project with its options, as far as these were not chosen; None where there is no part."""
    if part is None:
        return None
    options = {name: value for name, value in part.get("options", {}).items() if not is_chosen(value)}
    method = build_options(registry, part["method"], options, f"{where}.options")
    if not type(method).__module__.startswith(OWN):
        what = f'"{part["method"]}" is a method of another package, so its code is not included.'
        raise DataError(what, where=where, remedy="Set code_included to false.")
    return method


def is_chosen(value: Any) -> bool:
    """Whether an option of a merge is described by the candidates that it was chosen from."""
    return isinstance(value, Mapping) and "candidates" in value


def check_tasks(entry: Entry, file: str) -> None:
    """Everything that goes by task has all of the entry's tasks and no others."""
    tasks = list(entry.tasks)
    found: dict[str, Iterable[str]] = {
        "checkpoints": [name for name in entry.checkpoints if name != "base"],
        "experts": entry.experts,
        "base.results": entry.base.results,
        **{f"runs.{place}.results": run.results for place, run in enumerate(entry.runs)},
    }
    for field, names in found.items():
        if sorted(map(str, names)) != sorted(tasks):
            what = f"has {', '.join(map(str, names)) or 'nothing'}, but the tasks are {', '.join(tasks)}."
            raise DataError(what, where=f"{file}: {field}")
    if "base" not in entry.checkpoints:
        raise DataError("the base is missing.", where=f"{file}: checkpoints")
    for task, run in entry.experts.items():
        if list(run.results) != [task]:
            raise DataError("an expert has a result on its own task and no other.", where=f"{file}: experts.{task}.results")


def check_seeds(entry: Entry, file: str) -> None:
    """Several runs have a seed each."""
    for field, run in named_runs(entry):
        if run.seed is not None and not field.startswith("runs."):
            raise DataError("no seed enters the base or an expert.", where=f"{file}: {field}.seed")
    seeds = [run.seed for run in entry.runs]
    if len(set(seeds)) < len(seeds) or (None in seeds and len(seeds) > 1):
        raise DataError(f"the seeds {seeds} do not tell the runs apart.", where=f"{file}: runs")


def check_run(run: Run, tasks: Mapping[str, TaskData], where: str) -> None:
    """Every value is that of its outcomes."""
    for task, result in run.results.items():
        check_result(result, tasks[task], f"{where}.results.{task}")


def check_result(result: Result, task: TaskData, where: str) -> None:
    """A value with outcomes is their mean; an accuracy has outcomes, and a binomial standard error."""
    try:
        correct = result.outcomes(task.n)
    except ValueError as error:
        raise DataError(f"{error}.", where=f"{where}.correct", remedy="It is base64 of numpy.packbits of n outcomes.") from None
    if correct is None:
        if task.metric == "accuracy":
            raise DataError("an accuracy needs its per-example outcomes.", where=f"{where}.correct")
        return
    mean = float(correct.mean())
    if abs(result.value - mean) > ROUNDING:
        raise DataError(f"is {result.value:.6g}, but its per-example outcomes give {mean:.6g}.", where=f"{where}.value")
    error = math.sqrt(mean * (1 - mean) / task.n)
    if abs(result.standard_error - error) > ROUNDING:
        what = f"is {result.standard_error:.6g}, but its per-example outcomes give {error:.6g}."
        raise DataError(what, where=f"{where}.standard_error")


def check_sizes(entry: Entry, file: str) -> None:
    """A model takes at least its bits for each of the base's weights, and labels were used where options were chosen."""
    base = entry.base.size_bytes
    least = base * entry.bits / FULL_PRECISION_BITS if entry.quantizer else 1
    for place, run in enumerate(entry.runs):
        if not least <= run.size_bytes <= LARGEST * base:
            what = f"{run.size_bytes} is no size at {entry.bits} bits: from {least:.0f} to {LARGEST * base} for this base."
            raise DataError(what, where=f"{file}: runs.{place}.size_bytes")
        if run.costs.validation_labels != bool(entry.chosen):
            what = f'is {run.costs.validation_labels}, but chosen is "{entry.chosen}".'
            raise DataError(what, where=f"{file}: runs.{place}.costs.validation_labels")
