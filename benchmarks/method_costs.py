"""Processor seconds of every method on one block of ViT-B/32: `python -m benchmarks.method_costs > costs.json`.

Two experts of random weights, few samples; every method in a process of its own, on one thread. Processor seconds tell of a
machine that has other work. `benchmarks/resources.py` makes the constants of the workflow's formulas of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.merging_cost import CONFIG, FAMILY, VARIANTS, merge_once, peak_mib
from benchmarks.shapes import experts, first_blocks, inputs, merge_models, write_models
from pmqbench.families.base import FAMILIES
from pmqbench.merging.base import MERGERS
from pmqbench.quantization.base import QUANTIZERS

TASKS = ["first", "second"]
SAMPLES = 8
BLOCKS = 1
OPTIONS = {"autoround": {"steps": 10, "batch_size": 8}, "wudi": {}}
MERGES = {name: {"method": name, "options": {}} for name in MERGERS.names()} | {
    "calibrate_singular_values": VARIANTS["task_arithmetic svc"]
}


def quantize_once(folder: Path, name: str, config: dict) -> dict[str, float]:
    """Quantizes the merged model in this process; MiB beyond the imports, and processor seconds."""
    from pmqbench.quantization.calibrate import quantize_model

    family, method = FAMILIES.get(FAMILY)(), QUANTIZERS.get(name)
    options = OPTIONS.get(name, {}) | ({"calibration_samples": SAMPLES} if method.calibrated else {})
    calibration = {task: inputs(FAMILY, config, SAMPLES, SAMPLES, seed) for seed, task in enumerate(TASKS)}
    given = experts(folder, FAMILY, ["base", *TASKS], "cpu")
    base, before = given.pop("base"), peak_mib()
    for _ in range(2):  # what is loaded at first use is no cost of a model
        model, used = family.build(folder / "merged", "merged model"), time.process_time()
        quantize_model(model, method(**options), calibration, given, base=base)
    return {"mib": peak_mib() - before, "cpu": time.process_time() - used}


def merge_of(folder: Path, name: str, config: dict) -> dict[str, float]:
    """Merges the experts in this process; as `quantize_once`."""
    return merge_once(folder, MERGES[name], TASKS, config, SAMPLES)


def main() -> None:
    """Measures all methods and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    config = first_blocks(CONFIG, BLOCKS)
    if args.worker:
        from pmqbench.torch_setup import start_torch

        start_torch(1)
        kind, name, folder = args.worker[0], args.worker[1], Path(args.worker[2])
        if kind == "write":
            write_models(folder, FAMILY, config, TASKS)
            merge_models(folder, FAMILY, TASKS)
            figures = {}
        else:
            quantizer = kind == "quantizers"
            figures = quantize_once(folder, name, config) if quantizer else merge_of(folder, name, config)
        sys.stdout.write(json.dumps(figures))
        return
    command = [sys.executable, "-m", "benchmarks.method_costs", "--worker"]
    found: dict[str, dict[str, dict[str, float]]] = {"quantizers": {}, "merges": {}}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, "write", "-", folder], check=True, stdout=subprocess.PIPE)
        for kind, names in (("quantizers", QUANTIZERS.names()), ("merges", MERGES)):
            for name in names:
                done = subprocess.run([*command, kind, name, folder], check=True, stdout=subprocess.PIPE)
                found[kind][name] = json.loads(done.stdout)
                sys.stderr.write(f"{kind} {name}: {found[kind][name]['cpu']:.2f} s\n")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
