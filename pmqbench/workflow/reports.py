"""What reports and exports are made of, as functions of a suite and a job's wildcards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmqbench.code_hash import code_hash
from pmqbench.errors import ConfigError, listed
from pmqbench.files import hash8
from pmqbench.recipes import Target
from pmqbench.reporting import PAGE_ASSETS, PLOTS
from pmqbench.reporting.page.command import path_from_here
from pmqbench.reporting.published import Published, expert_values, load_published, pair_up
from pmqbench.repositories import unpinned
from pmqbench.sources.base import shared_experts
from pmqbench.workflow.layout import EXPORTED, QUANTIZED, REPORTS, Layout, Model

PIN = "`python -m pmqbench.pin CONFIG` writes the pins."


@dataclass(frozen=True)
class Reports:
    """What the rules after evaluation are made of."""

    layout: Layout

    @cached_property
    def published(self) -> Published | None:
        """The suite's published numbers, if there are any."""
        return load_published(self.layout.suite.name)

    def code(self, script: str, *modules: str) -> str:
        """Hash of the code of a stage that runs no model."""
        return code_hash(script, *modules)

    # --- the gate

    @property
    def gate(self) -> str:
        """What the experts scored, beside the base and published numbers."""
        return f"results/gates/{self.layout.suite.name}.json"

    def gates_before_merging(self) -> list[str]:
        """The gate of a suite with published numbers, which merges wait for."""
        return [self.gate] if self.published else []

    def expert_records(self) -> list[str]:
        """Each expert's record on its own task."""
        return [file for model in self.layout.expert_models for file in self.layout.record_files(model)]

    def base_records(self) -> list[str]:
        """The base's records."""
        return self.layout.record_files(self.layout.base_model)

    def published_experts(self) -> dict[str, Any]:
        """Published values of the experts, their source, and tolerances."""
        if self.published is None:
            return {"values": {}, "source": "", "tolerances": {}}
        return {**expert_values(self.published), "tolerances": self.published.tolerances()}

    # --- records and layers of a report

    def record_rows(self, wildcards: Any) -> list[dict[str, Any]]:
        """Every record of a report with the suite's names of its recipes."""
        return self.record_rows_of(self.layout.targets[wildcards.report])

    def record_rows_of(self, target: Target) -> list[dict[str, Any]]:
        """The same of a target."""
        models = self.layout.models_of(target)
        return [{"path": path, **model.names} for model in models for path in self.layout.record_files(model)]

    def layer_rows(self, wildcards: Any) -> list[dict[str, Any]]:
        """Every quantized model's layer records with its names."""
        models = [model for model in self._models(wildcards) if model.quantizer]
        return [{"path": f"{model.folder}/layers.json", "seed": model.seed, **model.names} for model in models]

    def curve_rows(self, wildcards: Any) -> list[dict[str, Any]]:
        """Every refined model's loss curve with its names."""
        models = [model for model in self._models(wildcards) if model.refinement]
        return [{"path": f"{model.folder}/curve.json", "seed": model.seed, **model.names} for model in models]

    def index_rows(self, wildcards: Any) -> list[dict[str, Any]]:
        """Every model of a report with its names and its files; an export exists once it was asked for."""
        return [
            {
                "kind": model.kind,
                **{name: model.names[name] for name in ("merge", "quantizer", "bits", "group_size")},
                "seed": model.seed,
                "folder": model.folder,
                "records": self.layout.record_files(model),
                "exported": self._exported(model) if model.quantizer else None,
            }
            for model in self._models(wildcards)
        ]

    def record_files(self, wildcards: Any) -> list[str]:
        """The files of `record_rows`, each once."""
        return list(dict.fromkeys(row["path"] for row in self.record_rows(wildcards)))

    def layer_files(self, wildcards: Any) -> list[str]:
        """The files of `layer_rows`, each once."""
        return list(dict.fromkeys(row["path"] for row in self.layer_rows(wildcards)))

    def curve_files(self, wildcards: Any) -> list[str]:
        """The files of `curve_rows`, each once."""
        return list(dict.fromkeys(row["path"] for row in self.curve_rows(wildcards)))

    def manifests(self, wildcards: Any) -> list[str]:
        """Manifests of all data and models of a report: they keep what jobs warned of."""
        folders = dict.fromkeys(model.folder for model in self._models(wildcards))
        return [*self.layout.data_manifests(), *(f"{folder}/manifest.json" for folder in folders)]

    def stated_warnings(self) -> list[str]:
        """What the config alone tells a reader to mind: repositories that may move, experts given twice."""
        suite = self.layout.suite
        loose = unpinned(suite)
        what = f"{len(loose)} repositories are not pinned to a commit, so numbers may change with the hub"
        return [*([f"{what}: {listed(loose)}. {PIN}"] if loose else []), *shared_experts(suite)]

    def published_pairs(self, wildcards: Any) -> list[dict[str, Any]]:
        """Published rows with the models they are to be compared with."""
        models = [(model.kind, model.id, model.merge, model.quantizer) for model in self._models(wildcards)]
        default = {model.id for model in self.layout.models_of(self.layout.suite.targets["default"])}
        return pair_up(self.published, models, list(self.layout.tasks), default)

    def _models(self, wildcards: Any) -> list[Model]:
        return list(self.layout.models_of(self.layout.targets[wildcards.report]))

    def tracking_store(self) -> str:
        """Hash of the tracking server's address, which may hold a password: another store is logged to anew."""
        return hash8(os.environ.get("MLFLOW_TRACKING_URI"))

    def results_folder(self, wildcards: Any, output: Any) -> str:
        """Where a tracking store without a server lies."""
        return str(Path(REPORTS).parent)

    # --- files of a report

    @cached_property
    def default(self) -> str:
        """Folder of the default target's report."""
        return self.folder("all")

    def folder(self, target: str) -> str:
        """Folder of a target's report; ConfigError that lists the suite's targets if it has no such one."""
        return f"{REPORTS}/{self.target(target).report}"

    def target(self, name: str) -> Target:
        """A target of the suite by the name of its rule: the default one is `all`."""
        suite = self.layout.suite
        known = {"all" if target == "default" else target: found for target, found in suite.targets.items()}
        if suite.by_training_seed:  # which all have one report
            known["seeds"] = next(iter(suite.by_training_seed.values())).targets["default"]
        if name not in known:
            what = f'suite {suite.name} has no target "{name}"; it has: {", ".join(known)}.'
            raise ConfigError(what, where="targets", remedy="Add it to the config, or choose one of these.")
        return known[name]

    def plot_code(self) -> str:
        """Every plot's own module."""
        return self.code("plot_comparison", *(f"pmqbench.reporting.plots.{name}" for name in PLOTS))

    def plot_files(self, folder: str, kind: str) -> list[str]:
        """The plots of a report as "svg" or "png"."""
        return [f"{folder}/plots/{name}.{kind}" for name in PLOTS]

    def ablations(self, wildcards: Any) -> list[dict[str, Any]]:
        """The questions that a report answers."""
        return [ablation.describe() for ablation in self.layout.targets[wildcards.report].ablations]

    def ablation_files(self, folder: str, kind: str) -> list[str]:
        """The figures of the suite's ablations, which one report has, as "svg" or "png"."""
        named = dict.fromkeys(ablation.name for target in self.layout.targets.values() for ablation in target.ablations)
        return [f"{folder}/ablations/{name}.{kind}" for name in named]

    def drawn(self, folder: str) -> list[str]:
        """The plots of a report; of one with ablations their figures, as no plot shows so many models."""
        if not self.layout.targets[Path(folder).name].ablations:
            return [*self.plot_files(folder, "svg"), *self.plot_files(folder, "png")]
        tables = [f"{folder}/ablations.csv", f"{folder}/ablations.md"]
        return [*tables, *self.ablation_files(folder, "svg"), *self.ablation_files(folder, "png")]

    def logged(self, wildcards: Any) -> list[str]:
        """Tables and plots that hang on a report's run in MLflow."""
        folder = f"{REPORTS}/{wildcards.report}"
        return [f"{folder}/leaderboard.csv", f"{folder}/comparisons.csv", *self.drawn(folder)]

    def page_code(self, script: str) -> str:
        """Hash of the code of a stage that writes a page, with the page's templates, styles and scripts."""
        return hash8([self.code(script), *(path.read_text(encoding="utf-8") for path in sorted(PAGE_ASSETS.iterdir()))])

    def config_files(self, configfiles: Iterable[str | Path]) -> list[str]:
        """Config files as one would name them in the folder that Snakemake works in."""
        return [path_from_here(path) for path in configfiles]

    def shown(self, folder: str) -> list[str]:
        """Everything a report shows."""
        names = ["records.parquet", "warnings.json", "leaderboard.csv", "leaderboard.md", "comparisons.csv", "mcnemar.csv"]
        names += ["leaderboard.html", "index.json", "index.csv", "tracked.json"]
        names += ["reproduction.csv", "reproduction.md"] if self.published else []
        return [*(f"{folder}/{name}" for name in names), *self.drawn(folder)]

    def beside_page(self, wildcards: Any) -> list[str]:
        """Tables beside a report's page, and the folders of its figures, as the page links to them."""
        folder = Path(REPORTS, wildcards.report)
        files = [Path(path).relative_to(folder) for path in self.shown(folder.as_posix())]
        tables = [path.name for path in files if path.suffix in (".csv", ".md") and len(path.parts) == 1]
        return [*tables, *dict.fromkeys(f"{path.parent.as_posix()}/" for path in files if len(path.parts) > 1)]

    def target_files(self, target: str) -> Callable[[Any], list[str]]:
        """Input function of a target's rule; the error of a target that the suite lacks comes when it is asked for."""
        return lambda wildcards: self.shown(self.folder(target))

    def leaderboards(self, name: str) -> list[str]:
        """A file of the default target's report of this suite, and of every other report that has a leaderboard."""
        found = {path.parent.as_posix() for path in Path(REPORTS).glob("*/leaderboard.csv")}
        return [f"{folder}/{name}" for folder in sorted({self.default, *found})]

    # --- export

    def exported(self, target: str) -> list[str]:
        """All files of a target's exported models."""
        models = [model for model in self.layout.models_of(self.target(target)) if model.quantizer]
        return list(dict.fromkeys(file for model in models for file in self.layout.exported_files(self._exported(model))))

    def exportable(self) -> list[str]:
        """Models below results/quantized, as the wildcard of an export has them."""
        folders = [model.folder for model in self.layout.models.values() if model.quantizer]
        return [folder.removeprefix(f"{QUANTIZED}/") for folder in folders]

    def export_inputs(self, wildcards: Any) -> dict[str, Any]:
        """The model, what it was made of, and the records that its card shows."""
        model = self.layout.models[f"quantized/{wildcards.exported}"]
        compared = {"own": model, "merged": self.layout.merged_model(model.merge)}
        records = {f"{name}_records": self.layout.record_files(one) for name, one in compared.items()}
        records |= {"expert_records": self.expert_records(), "base_records": self.base_records()}
        return self.export_sources(model) | records

    def export_sources(self, model: Model) -> dict[str, Any]:
        """A quantized model and what it was made of."""
        layout, merged = self.layout, self.layout.merged_model(model.merge)
        return {
            "packed": f"{model.folder}/packed.safetensors",
            "model": layout.model_files(model.folder),
            "merged": f"{merged.folder}/manifest.json",
            "base": layout.base_files(),
            "experts": [f"{expert.folder}/manifest.json" for expert in layout.expert_models],
        }

    def export_records(self, wildcards: Any) -> list[str]:
        """The records that a model's card shows."""
        inputs = self.export_inputs(wildcards)
        return [file for name, files in inputs.items() if name.endswith("_records") for file in files]

    def export_plan(self, wildcards: Any, output: Any) -> dict[str, Any]:
        """Folders, suite and tasks."""
        suite, folder = self.layout.suite, f"{EXPORTED}/{wildcards.exported}"
        tasks = [task.describe() for task in suite.tasks]
        return {"family": suite.family, "suite": suite.name, "folder": folder, "base": self.layout.base, "tasks": tasks}

    def _exported(self, model: Model) -> str:
        return model.folder.replace(QUANTIZED, EXPORTED, 1)
