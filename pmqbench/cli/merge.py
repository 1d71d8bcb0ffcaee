"""`pmqbench merge`: experts of one base into one model."""

from __future__ import annotations

import argparse
from typing import Any

from pmqbench.cli import arguments

EXAMPLES = """\
pmqbench merge models/base --experts models/fruit models/weather --method ties --option scaling=0.5 --out merged
pmqbench merge openai/clip-vit-base-patch32 --method wudi --out merged \\
    --experts tanganke/clip-vit-base-patch32_mnist tanganke/clip-vit-base-patch32_dtd
"""


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "merge",
        help="merge experts of one base into one model",
        description="Merge experts into one model. DIR holds weights and config in the base's own layout, and manifest.json.",
        examples=EXAMPLES,
    )
    arguments.add_models(parser)
    parser.add_argument("--method", default="task_arithmetic", metavar="NAME", help="merging method (default: %(default)s)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=arguments.option,
        metavar="KEY=VALUE",
        help="option of the method, the value as in YAML, as often as needed (docs/merging.md); `tune_scaling=[0.1, 0.3]` "
        "chooses on validation data",
    )
    arguments.add_out(parser)
    data = arguments.add_data(parser, "needed by methods that see samples and by tune_scaling")
    arguments.add_samples(data)
    arguments.add_running(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Merges, and says where the model is."""
    from pmqbench.cli.suites import recipe_suite

    suite = recipe_suite(given, merge={"method": given.method, **dict(given.option)})
    ((merge, _),) = suite.targets["default"].pairs

    from pmqbench.cli.pipeline import Pipeline, needs_data, output_folder

    with output_folder(given.out) as deliver:
        pipeline = Pipeline(suite, given.threads)
        pipeline.fetch()
        if needs_data(merge):
            pipeline.prepare(heads=bool(merge.tune_scaling))
        deliver(pipeline.merge(merge))
    print(f"{given.out}: {len(suite.tasks)} experts merged by {given.method}")
