"""Writes an entry from local results: one row of a suite's leaderboard, with all its seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pmqbench.errors import ConfigError, DataError, did_you_mean
from pmqbench.files import hash8, sha256_file, with_whole_numbers, write_text
from pmqbench.integrity import MANIFEST, read_sealed
from pmqbench.merging.base import MERGERS
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.recipes import Suite, Target
from pmqbench.records import Record, read_record
from pmqbench.refinement.base import REFINERS
from pmqbench.submissions.admission import read_entries
from pmqbench.submissions.checks import OWN, check_entry, identity
from pmqbench.submissions.folder import ENTRIES, entry_files, named
from pmqbench.submissions.schema import Entry, Submitter
from pmqbench.workflow.layout import Layout, Model
from pmqbench.workflow.reports import Reports

TOLD = ("code", "git_commit", "versions", "kernels", "machine", "processor", "device", "threads")


def submit(suite: Suite, target: str, row: str, by: str, link: str, *, with_code: bool = True, folder: Path = ENTRIES) -> Path:
    """Checks a row's results and writes its entry, whole or not at all.

    Args:
        suite: whose results lie below results/ in the working folder.
        target: the report that has the row; "all" for the default one.
        row: "merge", "merge/quantizer/bits" or "merge/quantizer/bits/group size".
        by, link: who sends it in, and where more is to be found ("" for nowhere).
        with_code: whether methods of this checkout are, or are to become, part of the project.
        folder: where entries lie.

    Returns:
        The new file.

    Raises:
        PMQError: there is no such row, it was not evaluated, or there is an entry of the same model.
    """
    layout = Layout(suite)
    models = models_of_row(layout, Reports(layout).target(target), row)
    entry = entry_of(layout, models, submitter(by, link), with_code)
    path = named(folder / f"{slug_of(entry)}.json")
    check_entry(entry, str(path))
    for file, other in read_entries(entry_files(folder))[0].items():
        if (other.suite, identity(other)) == (entry.suite, identity(entry)):
            raise DataError("this model is there already.", where=file, remedy="Change that file, or send in another model.")
    write_text(path, entry.model_dump_json(indent=1) + "\n")
    return path


def submitter(by: str, link: str) -> Submitter:
    """Who sends something in today; ConfigError for what is no name or no address."""
    if not by.strip():
        raise ConfigError("who sends the result in is not said.", where="BY", remedy='make submit BY="Ada Lovelace" ...')
    told = {"by": by, "link": link or None, "date": date.today().isoformat()}
    try:
        return Submitter.model_validate_json(json.dumps(told))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigError(
            f"{wrong['msg']}.", where=str(wrong["loc"][0]).upper(), remedy='make submit BY="Ada Lovelace" ...'
        ) from None


def models_of_row(layout: Layout, target: Target, row: str) -> list[Model]:
    """The models of a row of a target's report, one a seed; ConfigError with the nearest row if there is none."""
    rows: dict[str, list[Model]] = {}
    for model in layout.models_of(target):
        if model.merge:
            rows.setdefault(row_name(model), []).append(model)
    if row not in rows:
        raise ConfigError(f'{target.report} has no row "{row}".', where="MODEL", remedy=did_you_mean(row, rows))
    return rows[row]


def row_name(model: Model) -> str:
    """What `submit` calls the row of a merged or quantized model."""
    names = model.names
    grid = [names["bits"], *([names["group_size"]] if names["group_size"] else [])]
    return "/".join(map(str, [names["merge"], *([names["quantizer"], *grid] if model.quantizer else [])]))


def entry_of(layout: Layout, models: Sequence[Model], submitted: Submitter, with_code: bool) -> Entry:
    """The entry of a row's models; methods of other packages are without their code anyway."""
    first, suite = models[0], layout.suite
    made = manifest(layout.merged_model(first.merge))
    methods = {
        "merge": (MERGERS, first.merge),
        "quantizer": (QUANTIZERS, first.quantizer),
        "refinement": (REFINERS, first.refinement),
    }
    recipe = {name: recipe and with_whole_numbers(recipe.describe()) for name, (_, recipe) in methods.items()}
    own = [registry.get(recipe.method_name).__module__.startswith(OWN) for registry, recipe in methods.values() if recipe]
    experts = [records_of(layout, model) for model in layout.expert_models]
    base = records_of(layout, layout.base_model)
    told = {
        "format": 1,
        "suite": suite.name,
        **first.names,
        "submitted": submitted.model_dump(mode="json"),
        "code_included": with_code and all(own),
        "recipe": {"model": first.id.partition("/seed-")[0], **recipe},
        "checkpoints": {name: made["inputs"][name] for name in ("base", *layout.tasks)},
        "tasks": {
            task.name: {"metric": task.metric, "n": record.n, "sha256": sha256_file(layout.split_file(task, "test"))}
            for task, record in zip(suite.tasks, base, strict=True)
        },
        "runs": [run_of(records_of(layout, model)) for model in models],
        "base": run_of(base),
        "experts": {records[0].task: run_of(records) for records in experts},
        "provenance": {name: value for name, value in manifest(first).items() if name in TOLD},
    }
    return Entry.model_validate_json(json.dumps(told))


def manifest(model: Model) -> dict[str, Any]:
    """What made a model; DataError if it was not made."""
    path = Path(model.folder) / MANIFEST
    if not path.is_file():
        raise DataError("there is no such file.", where=str(path), remedy="Run the suite first.")
    return read_sealed(path)


def records_of(layout: Layout, model: Model) -> list[Record]:
    """A model's records in the order of its tasks; DataError if one is missing."""
    files = layout.record_files(model)
    for file in files:
        if not Path(file).is_file():
            raise DataError("there is no such file.", where=file, remedy="Run the suite first.")
    return [read_record(file) for file in files]


def run_of(records: Sequence[Record]) -> dict[str, Any]:
    """A model's records as a run of an entry."""
    first = records[0]
    results = {
        one.task: {name: getattr(one, name) for name in ("value", "standard_error", "loss", "correct")} for one in records
    }
    return {"seed": first.seed, "size_bytes": first.size_bytes, "costs": asdict(first.costs), "results": results}


def slug_of(entry: Entry) -> str:
    """Name of an entry's file: its names for a reader, and a hash of its recipe."""
    names = [entry.suite, entry.merge, *([entry.quantizer, f"{entry.bits}bit"] if entry.quantizer else [])]
    readable = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in "-".join(names))
    return f"{readable}-{hash8(identity(entry))}"
