"""The stages of one recipe, one after another in this process: the steps and plans of a suite's jobs, without Snakemake."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

from huggingface_hub.utils import disable_progress_bars
from snakemake.iocontainers import Namedlist, Wildcards

from pmqbench.errors import ConfigError
from pmqbench.heartbeat import heartbeat, show_heartbeat
from pmqbench.jobs import show_warnings
from pmqbench.recipes import MergeRecipe, QuantRecipe, Suite
from pmqbench.records import Record, read_record
from pmqbench.steps import (
    build_heads,
    calibrate_merge,
    evaluate_model,
    export_model,
    fetch_base,
    fetch_expert,
    merge_experts,
    prepare_task,
    quantize_model,
    refine_model,
    tune_quantizer,
    tune_scaling,
)
from pmqbench.workflow.evaluations import Evaluations
from pmqbench.workflow.layout import MODELS, Layout, Model
from pmqbench.workflow.quantizations import Quantizations
from pmqbench.workflow.reports import Reports
from pmqbench.workflow.stages import Stages, code_of


@dataclass(frozen=True)
class Job:
    """What a step asks of Snakemake."""

    params: SimpleNamespace
    input: Namedlist
    output: Namedlist
    threads: int
    resources: Namedlist = field(default_factory=Namedlist)


class Pipeline:
    """Runs the stages of a suite in the working folder, under the paths that a suite has there, with a line on stderr for each.

    Args:
        suite: of one merge and, where models are quantized, one quantizer and seed.
        threads: of every step.
    """

    def __init__(self, suite: Suite, threads: int) -> None:
        self.layout, self.threads = Layout(suite), threads
        self.stages = Stages(self.layout, code_of)
        self.quantizations = Quantizations(self.stages)
        show_warnings()
        show_heartbeat()
        disable_progress_bars()  # transformers' too, while it loads a text tower

    def fetch_base(self) -> str:
        """Brings the base in; returns its folder."""
        self._run(fetch_base, self.stages.base_plan, self.stages.base_code(), inputs={"data": []})
        return self.layout.base

    def fetch_expert(self, expert: str) -> str:
        """Brings an expert in by its id and compares it with the base; returns its folder."""
        self._run(fetch_expert, self.stages.expert_plan, self.stages.expert_code(), {"expert": expert})
        return f"{MODELS}/{expert}"

    def fetch(self) -> None:
        """Brings in the base and all experts."""
        self.fetch_base()
        for expert in self.layout.experts:
            self.fetch_expert(expert)

    def prepare(self, heads: bool) -> None:
        """Writes the tasks' splits and, if they are asked for, the heads that answers are read by."""
        for data_id in self.stages.data_tasks:
            where = {"data_id": data_id}
            code = self.stages.data_code(Wildcards(fromdict=where))
            self._run(prepare_task, self.stages.data_plan, code, where, outputs=self.layout.data_files(data_id))
        files = self.layout.head_files(self.layout.suite.tasks)
        if heads and files:
            self._run(build_heads, self.stages.head_plan, self.stages.head_code(), outputs=files)

    def merge(self, merge: MergeRecipe) -> str:
        """Merges base and experts; returns the merged model's folder."""
        known = Wildcards(fromdict={"merge": merge.id})
        tuning = self.stages.tuning_file(known)
        if tuning:
            self._run(tune_scaling, self.stages.tuning_plan, self.stages.tuning_code(known), known, outputs=tuning)
        step = calibrate_merge if merge.method.calibrated else merge_experts
        self._run(step, self.stages.merge_plan, self.stages.merge_code(known), known, {"tuning": tuning})
        return self.layout.merged_model(merge).folder

    def quantize(self, merge: MergeRecipe, quantizer: QuantRecipe) -> Model:
        """Quantizes the merged model and refines it, if the recipe says so; returns the model."""
        rules, known = self.quantizations, Wildcards(fromdict={"quantized": f"{merge.id}/{quantizer.id}"})
        if tuning := rules.tuning_files(known):
            self._run(tune_quantizer, rules.tuning_plan, rules.tuning_code(known), known, outputs=tuning)
        self._run(quantize_model, rules.quantizer_plan, rules.quantized_code(known), known)
        (model,) = self.layout.final_models(merge, quantizer)
        if quantizer.refinement:
            known = Wildcards(fromdict={"quantized": f"{merge.id}/{quantizer.path}", "seed": model.seed})
            self._run(refine_model, rules.refine_plan, rules.refine_code(known), known)
        return model

    def export(self, model: Model) -> str:
        """Writes a quantized model as stock transformers loads it, its card without accuracies; returns the folder."""
        reports, known = Reports(self.layout), Wildcards(fromdict={"exported": model.id.removeprefix("quantized/")})
        inputs = reports.export_sources(model)
        self._run(export_model, reports.export_plan, self.layout.code("export_model"), known, inputs)
        return reports.export_plan(known, None)["folder"]

    def evaluate(self, model: Model) -> list[Record]:
        """A model's records on its tasks."""
        rules = Evaluations(self.quantizations)
        tasks = [self.layout.tasks[name] for name in model.tasks]
        self._run(evaluate_model, lambda *_: rules.plan_of([model], tasks), rules.code())
        return [read_record(path) for path in self.layout.record_files(model)]

    def _run(
        self,
        step: ModuleType,
        plan: Callable[[Any, Any], Mapping[str, Any]],
        code: str,
        known: Mapping[str, Any] | Wildcards | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, str] | Sequence[str] = (),
    ) -> None:
        """Runs a step as a rule's job: what is not given is empty."""
        wildcards = known if isinstance(known, Wildcards) else Wildcards(fromdict=known or {})
        named = {"fromdict": outputs} if isinstance(outputs, Mapping) else {"toclone": outputs}
        output = Namedlist(**named)
        params = SimpleNamespace(plan=plan(wildcards, output), code=code)
        name, started = step.__name__.rpartition(".")[2].replace("_", " "), time.perf_counter()
        label = " ".join([name, *map(str, wildcards)])
        with heartbeat():
            step.main(Job(params, Namedlist(fromdict=inputs or {}), output, self.threads))
        sys.stderr.write(f"{label}: {time.perf_counter() - started:.1f} s\n")


def needs_data(merge: MergeRecipe, quantizer: QuantRecipe | None = None) -> bool:
    """Whether the recipes see any task's examples."""
    of_merge = merge.method.calibrated or bool(merge.tune_scaling)
    return of_merge or (quantizer is not None and (quantizer.seeded or bool(quantizer.tune)))


@contextmanager
def output_folder(out: Path | None) -> Iterator[Callable[[str | Path], None]]:
    """A temporary working folder, left and removed at the end, whatever happens.

    Args:
        out: the folder to write, relative to where one is now; None for none.

    Yields:
        Function that puts a folder, relative to the working folder, in the place of `out`, all at once.

    Raises:
        ConfigError: `out` is there already and not an empty folder, or its parent cannot be written.
    """
    if out is None:
        with TemporaryDirectory() as folder, chdir(folder):
            yield lambda made: None
        return
    out = out.expanduser().resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f'"{out}" is there already.', where="--out", remedy="Give a new or an empty folder.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the output, so that the last step is a renaming within one file system.
        temporary = TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise ConfigError(f"it cannot be written ({error}).", where="--out", remedy="Give a folder of yours.") from error
    with temporary as folder, chdir(folder):
        yield lambda made: os.replace(Path(made).absolute(), out)
