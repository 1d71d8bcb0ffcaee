"""`pmqbench evaluate`: a model's accuracy on tasks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.cli import arguments
from pmqbench.errors import ConfigError
from pmqbench.files import read_json

if TYPE_CHECKING:
    from pmqbench.cli.pipeline import Pipeline
    from pmqbench.records import Record
    from pmqbench.workflow.layout import Model

EXAMPLES = """\
pmqbench evaluate merged --base models/base --data mine.yaml
pmqbench evaluate models/base --data mine.yaml --tasks fruit
pmqbench evaluate quantized --base openai/clip-vit-base-patch32 --tasks mnist dtd --out records
"""


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "evaluate",
        help="evaluate a base, an expert, a merged or a quantized model on tasks",
        description="Evaluate a model on the test splits of tasks, and print each metric with its 95 % interval.",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "model", metavar="MODEL", help=f"what `merge` or `quantize` wrote (without --export), or {arguments.MODEL_HELP}"
    )
    parser.add_argument(
        "--base",
        metavar="BASE",
        help="the base of MODEL, which has the text tower or the tokenizer; needed unless MODEL is a whole base itself",
    )
    arguments.add_data(parser, "the tasks; one of --data and --tasks is needed")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the records too, one JSON a task; DIR must not exist, or be empty"
    )
    arguments.add_running(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Evaluates, prints and, if wanted, writes the records."""
    from pmqbench.cli.suites import model_suite

    suite = model_suite(given)

    from pmqbench.cli.pipeline import Pipeline, output_folder
    from pmqbench.workflow.layout import EVALUATIONS

    folder = Path(os.path.abspath(Path(given.model).expanduser()))
    manifest = folder / "manifest.json"
    made_here = manifest.is_file() and "recipe" in read_json(manifest)
    if made_here and not given.base:
        what = "it is a part of a model, without text tower or tokenizer."
        raise ConfigError(what, where=str(folder), remedy="Name the base that it was made from: --base")
    with output_folder(given.out) as deliver:
        pipeline = Pipeline(suite, given.threads)
        model = _model(pipeline, folder, made_here, bool(given.base))
        pipeline.prepare(heads=True)
        records = pipeline.evaluate(model)
        if given.out:
            deliver(f"{EVALUATIONS}/{model.id}")
    print_records(records)


def _model(pipeline: Pipeline, folder: Path, made_here: bool, has_base: bool) -> Model:
    """The model to evaluate: where it is, if `merge` or `quantize` wrote it, else as a base or an expert is brought in."""
    from pmqbench.integrity import read_manifest, verify
    from pmqbench.workflow.layout import Model

    base = pipeline.fetch_base()
    if made_here:
        verify(folder.iterdir(), pipeline.threads)
        pipeline.layout.family.check_like(folder, Path(base), f"model {folder}")
        kind, place = "quantized" if "quantizer" in read_manifest(folder)["recipe"] else "merged", str(folder)
    elif has_base:
        kind, place = "expert", pipeline.fetch_expert(next(iter(pipeline.layout.experts)))
    else:
        kind, place = "base", base
    return Model(f"evaluated/{folder.name}", kind, place, tuple(pipeline.layout.tasks))


def print_records(records: Sequence[Record]) -> None:
    """Prints metrics in percent with their 95 % intervals, and their unweighted average."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from pmqbench.records import mean_of

    screen = Table("task", "metric", box=SIMPLE_HEAD, show_edge=False)
    for heading in ("value", "95 % interval", "examples"):
        screen.add_column(heading, justify="right", no_wrap=True)
    rows = [(record.task, record.metric, record.value, record.interval(), str(record.n)) for record in records]
    rows += [("average", "", *mean_of(records), "")] if len(records) > 1 else []
    for task, metric, value, (low, high), examples in rows:
        screen.add_row(task, metric, f"{100 * value:z.2f}", f"{100 * low:z.2f} … {100 * high:z.2f}", examples)
    Console().print(screen)
