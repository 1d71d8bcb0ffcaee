"""Seconds and peak memory of every merging method at ViT-B/32's shape: `python benchmarks/merging_cost.py --layers 1`.

Prints a line per method and number of experts, each merge in a process of its own. "resident" is the peak of the whole process
beyond its imports, in models (float32 copies of the base), pages of mapped checkpoint files included. The parent stays small
and imports no torch: a child's peak begins at its parent's size. With fewer blocks than the model's 12, the last column is the
time times 12 / blocks: what a method does is block by block, but for embeddings, for which it is too much. Merges with
unlabelled samples see random images.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.shapes import MODELS, experts, first_blocks, inputs, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.merging.base import MERGERS, merger_of

FAMILY, CONFIG = MODELS["vit-b-32"]
BLOCKS = CONFIG["num_hidden_layers"]
BATCH = 64
VARIANTS = {
    "ties mergekit": {
        "method": "ties",
        "options": {"trim": "tensor", "zero_sign": "positive", "aggregate": "mean", "scaling": 1.0},
    },
    "task_arithmetic svc": {
        "method": "task_arithmetic",
        "options": {},
        "calibrate_singular_values": {"floor": 0.1},
    },
}


def merge_once(folder: Path, recipe: dict, tasks: list[str], config: dict, samples: int) -> dict[str, float]:
    """Merges in this process; MiB beyond the imports, seconds, and those of the processor."""
    import torch

    from pmqbench.merging.engine import linear_weights, merge
    from pmqbench.quantization.calibrate import quantize_model

    family, method = FAMILIES.get(FAMILY)(), merger_of(recipe)
    calibration = {t: inputs(FAMILY, config, samples, BATCH, i) for i, t in enumerate(tasks)} if method.calibrated else {}
    torch.zeros(8).double().sum()
    before, start, used = peak_mib(), time.perf_counter(), time.process_time()
    base = family.checkpoint(folder / "base", "base")
    given = experts(folder, FAMILY, ["base", *tasks], "cpu")
    origin = given.pop("base")
    tensors = merge(method, base, [expert.weights for expert in given.values()], linear_weights(family, folder))
    if method.calibrated:
        model = origin.build()
        model.load_state_dict(tensors)
        quantize_model(model, method.solver(), calibration, given, base=origin)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    return {"mib": peak_mib() - before, "seconds": seconds, "cpu": cpu}


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Runs every method with every number of experts."""
    recipes = {name: {"method": name, "options": {}} for name in MERGERS.names()} | VARIANTS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=BLOCKS, help="blocks (12); fewer are quicker")
    parser.add_argument("--methods", nargs="+", choices=recipes, default=list(recipes))
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 8], help="how many (2 and 8)")
    parser.add_argument("--samples", type=int, default=256, help="a task, of merges that see any (256)")
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "LABEL", "EXPERTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    config = first_blocks(CONFIG, args.layers)
    if args.worker:
        folder, label, tasks = Path(args.worker[0]), args.worker[1], [f"e{i}" for i in range(int(args.worker[2]))]
        if label == "write":
            write_models(folder, FAMILY, config, tasks)
        else:
            sys.stdout.write(json.dumps(merge_once(folder, recipes[label], tasks, config, args.samples)))
        return
    command = [sys.executable, __file__, "--layers", str(args.layers), "--samples", str(args.samples), "--worker"]
    weights = FAMILIES.get(FAMILY).weights_file
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, folder, "write", str(max(args.experts))], check=True)
        model = (Path(folder) / "base" / weights).stat().st_size / 2**20
        sys.stdout.write(f"one model of {args.layers} blocks: {model:.0f} MiB\n")
        sys.stdout.write(f"{'method':20} experts  resident      MiB  seconds  {BLOCKS} blocks\n")
        for label in args.methods:
            for count in args.experts:
                run = subprocess.run([*command, folder, label, str(count)], check=True, stdout=subprocess.PIPE)
                figures = json.loads(run.stdout)
                whole = figures["seconds"] * BLOCKS / args.layers
                sys.stdout.write(
                    f"{label:20} {count:7} {figures['mib'] / model:8.2f}x {figures['mib']:8.0f} {figures['seconds']:8.1f} "
                    f"{whole:9.1f}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
