"""Published numbers of a suite (`references/<suite>.json`), and which of our models each of them is to be compared with.

A published row names a kind of model and, where there is one, its recipes by method and options; a display name means nothing.
Snakemake reads this while it parses: no torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pmqbench.errors import ConfigError
from pmqbench.files import read_json
from pmqbench.merging.base import MERGERS
from pmqbench.options import build_options, check_schema
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.registry import Registry

FOLDER = Path(__file__).parent / "references"
AVERAGE = "average"
AGREES, DIFFERS, NOT_RUN = "agrees", "differs", "not run"
STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class Recipe:
    """A method and its published options; options not given have the method's defaults."""

    __pydantic_config__ = STRICT
    method: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What one source says of one model, in percent.

    Attributes:
        label: what reports call it.
        kind: as in `records.KINDS`; "expert" stands for the individual experts, each on its own task.
        source: key of the file's `sources`.
        values: one a task in the file's order, or none if only the average is published.
        average: as published; the mean of `values` where none is.
        merge, quantizer: None where there is none, and `merge` also where the source does not state it: then any of the default
            target's will do.
    """

    __pydantic_config__ = STRICT
    label: str
    kind: Literal["base", "expert", "merged", "quantized"]
    source: str
    values: tuple[float, ...] = ()
    average: float | None = None
    merge: Recipe | None = None
    quantizer: Recipe | None = None

    def fits(self, kind: str, merge: Any, quantizer: Any) -> bool:
        """Whether a model of these recipes (`recipes.MergeRecipe`, `recipes.QuantRecipe` or None) is the published one."""
        return (
            kind == self.kind
            and (self.merge is None or (_is(MERGERS, self.merge, merge) and _is_plain(merge)))
            and (self.quantizer is None or (_is(QUANTIZERS, self.quantizer, quantizer) and _is_untouched(quantizer)))
        )


@dataclass(frozen=True)
class Published:
    """A file of published numbers.

    Attributes:
        tasks: in the order of every row's values.
        tolerance: points by task, and "default" for the tasks it does not name.
        sources: key -> paper or repository.
        rows: in the order reports show them.
    """

    __pydantic_config__ = STRICT
    tasks: tuple[str, ...]
    tolerance: dict[str, float]
    sources: dict[str, str]
    rows: tuple[Row, ...]

    def first(self, count: int) -> Published:
        """The same of the first `count` tasks: rows with values per task, without the averages published over all."""
        rows = (replace(row, values=row.values[:count], average=None) for row in self.rows if row.values)
        return replace(self, tasks=self.tasks[:count], rows=tuple(rows))

    def tolerances(self) -> dict[str, float]:
        """Points by task and for AVERAGE: the mean of the tasks', what all of them may drift together."""
        tolerances = {task: self.tolerance.get(task, self.tolerance["default"]) for task in self.tasks}
        return {**tolerances, AVERAGE: round(fmean(tolerances.values()), 2)}

    def values(self, row: Row) -> dict[str, float]:
        """Percent by task (if published) and for AVERAGE."""
        average = fmean(row.values) if row.average is None else row.average
        return {**dict(zip(self.tasks, row.values, strict=bool(row.values))), AVERAGE: round(average, 2)}


@dataclass(frozen=True)
class Excerpt:
    """A file that says: the numbers of another file, of its first tasks only."""

    __pydantic_config__ = STRICT
    first: int
    of: str


def load_published(suite: str) -> Published | None:
    """The published numbers of a suite, or None if there are none; ConfigError for a file that is not well formed."""
    path = FOLDER / f"{suite}.json"
    if not path.is_file():
        return None
    from pydantic import TypeAdapter

    data = read_json(path)
    adapter = TypeAdapter(Excerpt if "of" in data else Published)
    check_schema(data, adapter.json_schema(), path.name)
    checked = adapter.validate_python(data)
    if isinstance(checked, Excerpt):
        whole = load_published(checked.of)
        if whole is None:
            raise ConfigError(f'there are no published numbers of "{checked.of}".', where=f"{path.name}: of")
        return whole.first(checked.first)
    _check(checked, path.name)
    return checked


def _check(published: Published, where: str) -> None:
    """ConfigError for what a schema cannot say."""
    if unknown := sorted(set(published.tolerance) - {*published.tasks, "default"}):
        raise ConfigError(f"no task {', '.join(unknown)}.", where=f"{where}: tolerance", remedy="Name the file's tasks.")
    if "default" not in published.tolerance:
        raise ConfigError('"default" is missing.', where=f"{where}: tolerance", remedy="Give the points others may differ.")
    for row in published.rows:
        place = f"{where}: {row.label}"
        if len(row.values) not in (0, len(published.tasks)) or not (row.values or row.average is not None):
            what = f"{len(row.values)} values for {len(published.tasks)} tasks."
            raise ConfigError(what, where=place, remedy="Give one a task, or the average alone.")
        if row.source not in published.sources:
            raise ConfigError(f'unknown source "{row.source}".', where=place, remedy="Describe it under `sources`.")


def _is_plain(merge: Any) -> bool:
    """Whether a merge recipe is its method alone, with the options that the config gives."""
    return not merge.tune_scaling and not merge.calibrate_singular_values


def _is_untouched(quantizer: Any) -> bool:
    """Whether a quantizer recipe is its method alone: nothing chosen on validation splits, and no refinement after it."""
    return not quantizer.tune and quantizer.refinement is None


def _is(registry: Registry[Any], stated: Recipe, ours: Any) -> bool:
    """Whether a recipe of ours has the stated method with the stated options and defaults for all others."""
    if ours is None or ours.method_name != stated.method:
        return False
    return ours.method == build_options(registry, stated.method, stated.options, f"published numbers: {stated.method}")


def pair_up(
    published: Published, models: Iterable[tuple[str, str, Any, Any]], tasks: Sequence[str], default: Collection[str]
) -> list[dict[str, Any]]:
    """Every published row with each of our models it is to be compared with.

    Args:
        published: of the suite.
        models: (kind, model id, merge recipe or None, quantizer recipe or None), one for every calibration seed.
        default: ids of the models of the suite's default target, whose merges are meant where a source states none.
        tasks: the suite's. Merged models of other tasks than the published ones are not the published ones.

    Returns:
        JSON: label, kind, source, values {task or AVERAGE: percent}, our names of merge and quantizer, and the ids of the
        models that count as one: all seeds, or all experts. A row that nothing fits appears once, without models.
    """
    same_tasks = set(tasks) == set(published.tasks)
    known = list(models)
    pairs = []
    for row in published.rows:
        ours: dict[tuple[str | None, str | None], list[str]] = {}
        for kind, model, merge, quantizer in known:
            stated = row.merge is not None or model in default
            if stated and row.fits(kind, merge, quantizer) and (same_tasks or kind in ("base", "expert")):
                ours.setdefault((merge and merge.name, quantizer and quantizer.name), []).append(model)
        source, values = published.sources[row.source], published.values(row)
        for (merge_name, quantizer_name), ids in (ours or {(None, None): []}).items():
            names = {"merge": merge_name, "quantizer": quantizer_name, "models": ids}
            pairs.append({"label": row.label, "kind": row.kind, "source": source, "values": values, **names})
    return pairs


def judge(ours: float | None, published: float, tolerance: float) -> dict[str, Any]:
    """Our number beside a published one, in percent: ours and difference (two decimals, None if not run), and the verdict.

    The verdict is that of the rounded numbers, so that a reader of a table comes to the same one.
    """
    found: dict[str, Any] = {"ours": None, "published": published, "difference": None, "tolerance": tolerance}
    if ours is None:
        return {**found, "verdict": NOT_RUN}
    ours = round(ours, 2) + 0.0  # no negative zero, which a rho may round to
    difference = round(ours - published, 2) + 0.0
    verdict = AGREES if abs(difference) <= tolerance else DIFFERS
    return {**found, "ours": ours, "difference": difference, "verdict": verdict}


def tally(verdicts: Sequence[str]) -> str:
    """How many agree, differ and were not run, in words."""
    words = {AGREES: "agree", DIFFERS: "differ", NOT_RUN: "not run"}
    return ", ".join(f"{verdicts.count(verdict)} {word}" for verdict, word in words.items())


def expert_values(published: Published) -> Mapping[str, Any]:
    """What the experts are checked against: {"values": percent by task, "source"}; no values if no source has them."""
    for row in published.rows:
        if row.kind == "expert" and row.values:
            return {"values": dict(zip(published.tasks, row.values, strict=True)), "source": published.sources[row.source]}
    return {"values": {}, "source": ""}
