"""What suites know of a results folder: artefacts that today's code did not make, and artefacts that no suite names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from snakemake.iocontainers import Wildcards

from pmqbench.health.damage import artefacts
from pmqbench.health.findings import Finding
from pmqbench.health.space import gigabytes
from pmqbench.recipes import Suite
from pmqbench.storage import RESULTS
from pmqbench.workflow.layout import DATA, MODELS, Layout
from pmqbench.workflow.quantizations import Quantizations
from pmqbench.workflow.stages import Stages, code_of


def codes(suite: Suite) -> dict[str, str]:
    """Folder of every artefact of a suite -> hash of today's code for it; of the suite as trained with its other seeds too."""
    found = {}
    for layout in (Layout(suite), *map(Layout, suite.by_training_seed.values())):
        stages = Stages(layout, code_of)
        rules = Quantizations(stages)
        found |= {f"{DATA}/{task}": stages.data_code(Wildcards(fromdict={"data_id": task})) for task in stages.data_tasks}
        found |= {layout.base: stages.base_code()} | {f"{MODELS}/{expert}": stages.expert_code() for expert in layout.experts}
        found |= {layout.merged_model(merge).folder: stages.code_of_merge(merge) for merge in layout.merges.values()}
        for models in (*layout.quantized.values(), *layout.refined.values()):
            for model in models:
                refined = model.refinement
                found[model.folder] = rules.refiner_code(refined) if refined else rules.quantizer_code(model.quantizer)
    return found


def suite_findings(results: Path, suites: Sequence[Suite]) -> Iterator[Finding]:
    """Stale artefacts of the suites, and folders that none of them names, with what these take."""
    codes_of_today = {folder: code for suite in suites for folder, code in codes(suite).items()}
    known = {results / Path(folder).relative_to(RESULTS): code for folder, code in codes_of_today.items()}
    there = artefacts(results)
    stale = [folder for folder in there if folder in known and code_of(str(folder / "manifest.json")) != known[folder]]
    if stale:
        way_out = "The next run makes them anew, and what is made of them; nothing is to be done."
        yield Finding("stale", tuple(f"{folder}: made by other code than today's" for folder in stale), way_out, harmful=False)
    unnamed = [folder for folder in there if folder not in known]
    if unnamed:
        things = tuple(f"{folder}: {gigabytes(folder)}" for folder in unnamed)
        yield Finding(
            "of no suite", things, "None of the given configs names them; delete what you need no more.", harmful=False
        )
