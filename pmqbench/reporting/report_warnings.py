"""Everything a reader of a report has to be warned of, in one list: warnings.json, which page and terminal repeat.

Jobs write what they warn of into the manifest of what they make, evaluations into their records. The gate, the suite itself and
the libraries that made the models add theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pmqbench.errors import DataError, listed
from pmqbench.files import write_json
from pmqbench.integrity import read_sealed
from pmqbench.reporting.gates import gate_warnings

STAGES = ("merged", "quantized", "evaluations")  # what is made before them is the same for all rows of a report
NUMERICAL = ("torch", "numpy", "scipy", "open_clip_torch", "transformers")
NAMED = 5
LIBRARY_REMEDY = (
    "Rows may differ by some tenths of a point for that alone; delete the odd ones and run again to make all alike."
)


def write_warnings(
    path: str | Path,
    *,
    suite: str,
    stated: Iterable[str],
    manifests: Iterable[str | Path],
    gates: Mapping[str, Any],
    records: pd.DataFrame,
    strict: bool = False,
) -> None:
    """Writes warnings.json: a list of {"where", "message"}, empty if there is nothing to warn of.

    Args:
        path: where to.
        suite: its name, the place of what it states.
        stated: sentences on the suite as a whole.
        manifests: manifest.json of the data, experts and models of the report.
        gates: as from `gates.check_experts`.
        records: as from `collect`.
        strict: whether models calibrated with fewer samples than asked for are an error: they may be older than the suite's
            strictness.

    Raises:
        DataError: `strict`, and there is such a model.
    """
    made = {folder_of(manifest): read_sealed(manifest) for manifest in manifests}
    if strict:
        refuse_short_samples(made)
    evaluated = [(f"evaluations/{row.model}", row) for row in records.itertuples()]
    own = [(where, manifest.get("warnings", [])) for where, manifest in made.items()]
    own += [(where, json.loads(row.warnings)) for where, row in evaluated]
    provenance = [*made.items(), *((where, json.loads(row.provenance)) for where, row in evaluated)]
    found = [
        *((suite, message) for message in stated),
        *(("gate", message) for message in gate_warnings(gates)),
        *((where, message) for where, messages in own for message in messages),
        *((suite, message) for message in useless_experts(records)),
        *((suite, message) for message in mixed_libraries(provenance)),
    ]
    write_json(path, joined(found))


def refuse_short_samples(made: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises DataError for the first model whose manifest counts fewer calibration samples than its recipe asks for."""
    for where, manifest in made.items():
        recipe = manifest.get("recipe", {})
        asked = recipe.get("quantizer", {}).get("options", {}).get("calibration_samples", 0)
        for task, count in recipe.get("calibration_samples", {}).items():
            if count < asked:
                what = f"task {task} had {count} calibration samples where {asked} are asked for."
                raise DataError(what, where=where, remedy="Lower `calibration.samples`, or leave `strict` out.")


def folder_of(manifest: str | Path) -> str:
    """The artefact that a manifest describes, as a path below results/."""
    folder = Path(manifest).parent
    return (folder.relative_to("results") if folder.is_relative_to("results") else folder).as_posix()


def joined(found: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """(where, message) pairs in order, one entry a message: what many artefacts share is said once."""
    places: dict[str, dict[str, None]] = {}
    for where, message in found:
        places.setdefault(" ".join(message.split()), {})[where] = None
    return [{"where": listed(list(where), 1), "message": message} for message, where in places.items()]


def useless_experts(records: pd.DataFrame) -> Iterator[str]:
    """A sentence if an expert scores nothing."""
    useless = list(dict.fromkeys(records["task"][records["kind"].eq("expert") & (records["value"] <= 0)]))
    if useless:
        yield f"the expert of {', '.join(useless)} scores nothing, so no model's value can be normalised to the experts'."


def mixed_libraries(provenance: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """A sentence for each library, kernel, processor or device that not all compared models share.

    Versions are compared over all stages; what belongs to a machine only within one, as stages may well run on different ones.

    Args:
        provenance: (path below results/, what `provenance.provenance` said of it).
    """
    found: dict[str, dict[str, dict[str, None]]] = {}
    for where, made in provenance:
        stage = where.split("/", 1)[0]
        if stage in STAGES:
            facts = {name: version for name, version in made.get("versions", {}).items() if name in NUMERICAL}
            machine = made.get("kernels", {}) | {key: made[key] for key in ("processor", "device") if key in made}
            facts |= {f"{name} of {stage}": value for name, value in machine.items()}
            for name, value in facts.items():
                found.setdefault(name, {}).setdefault(value, {})[where] = None
    for name, values in found.items():
        if len(values) > 1:
            common, *others = sorted(values.items(), key=lambda item: -len(item[1]))
            odd = "; ".join(f"{value} for {listed(list(places), NAMED)}" for value, places in others)
            yield f"the report mixes {name}: {common[0]} for {len(common[1])} of its results; {odd}. {LIBRARY_REMEDY}"
