"""`pmqbench quantize`: experts of one base into one quantized model."""

from __future__ import annotations

import argparse
from typing import Any

from pmqbench.cli import arguments

EXAMPLES = """\
pmqbench quantize models/base --experts models/fruit models/weather --bits 4 --method rtn --out quantized
pmqbench quantize models/base --experts models/fruit models/weather --data mine.yaml --bits 2 --method epmq \\
    --option anchor=1 --export --out exported
"""


def add_to(commands: Any) -> None:
    """Adds the command to an argparse parser's."""
    parser = arguments.add_command(
        commands,
        "quantize",
        help="merge experts of one base and quantize the merged model",
        description="Merge experts and quantize the merged model, with the experts as guides where the method asks for them. "
        "DIR holds the quantized model's weights in float32 and its config, packed.safetensors, layers.json (each layer's "
        "errors) and manifest.json; with --export it is a folder that stock transformers loads.",
        examples=EXAMPLES,
    )
    arguments.add_models(parser)
    parser.add_argument("--merge", default="task_arithmetic", metavar="NAME", help="merging method (default: %(default)s)")
    option = {"action": "append", "default": [], "type": arguments.option, "metavar": "KEY=VALUE"}
    parser.add_argument("--merge-option", **option, help="option of the merging method (docs/merging.md), as often as needed")
    parser.add_argument("--method", default="epmq", metavar="NAME", help="quantization method (default: %(default)s)")
    parser.add_argument(
        "--option",
        **option,
        help="option of the quantization method, the value as in YAML, as often as needed (docs/quantization.md); "
        "`tune={anchor: [0.1, 10]}` chooses on validation data, `refine={method: distill}` refines afterwards",
    )
    parser.add_argument("--bits", type=int, choices=(2, 3, 4, 8, 16), default=4, help="bits per weight (default: %(default)s)")
    parser.add_argument(
        "--group-size", type=arguments.positive, metavar="N", help="inputs per scale; one scale per output channel by default"
    )
    arguments.add_out(parser)
    parser.add_argument("--export", action="store_true", help="write DIR as stock transformers loads it, with a model card")
    data = arguments.add_data(parser, "needed by all methods but rtn and hqq")
    arguments.add_samples(data)
    data.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw of samples (default: %(default)s)")
    arguments.add_running(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Merges and quantizes, and says where the model is."""
    from pmqbench.cli.suites import recipe_suite

    grid = {"bits": given.bits, "group_size": given.group_size or "channel"}
    quantizer = {"method": given.method, **grid, **dict(given.option)}
    suite = recipe_suite(given, merge={"method": given.merge, **dict(given.merge_option)}, quantizer=quantizer)
    ((merge, quantizer),) = suite.targets["default"].pairs

    from pmqbench.cli.pipeline import Pipeline, needs_data, output_folder

    with output_folder(given.out) as deliver:
        pipeline = Pipeline(suite, given.threads)
        pipeline.fetch()
        if needs_data(merge, quantizer):
            pipeline.prepare(heads=bool(merge.tune_scaling or quantizer.tune))
        pipeline.merge(merge)
        model = pipeline.quantize(merge, quantizer)
        deliver(pipeline.export(model) if given.export else model.folder)
    made = f"merged by {given.merge}, quantized by {given.method} to {quantizer.method.bits} bits"
    print(f"{given.out}: {len(suite.tasks)} experts {made}")
