"""What the order of sums is worth: `python -m benchmarks.rounding RESULTS`, on the models of a finished mini suite.

Quantizes the mini suite's Task Arithmetic merge again with one thing changed that no number should depend on (batch size, order
of tasks, threads, how the forward passes are split), and says how many codes differ and what becomes of the accuracy.
Merges are made again of the experts in reversed order.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METHODS = ("gptq", "epmq", "awq")
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "again": {},
    "batch 16 for 64": {"batch": 16},
    "tasks reversed": {"reverse": True},
    "2 threads for 1": {"threads": 2},
}
MERGES = ("task_arithmetic", "ties", "tsv_m", "wudi", "model_stock", "iso_c", "pcb", "magmax", "breadcrumbs", "simple_average")
SAMPLES, BITS = 48, 4


class Mini:
    """A finished mini suite's models and data."""

    def __init__(self, results: Path) -> None:
        from pmqbench.evaluation.base import PROTOCOLS
        from pmqbench.families.base import FAMILIES
        from pmqbench.files import read_json

        index = {(row["merge"], row["quantizer"]): row for row in read_json(results / "suites/mini/index.json")}
        whole = "full precision"
        root = results.parent
        self.base = root / index["pre-trained", whole]["folder"]
        self.merged = root / index["ta", whole]["folder"]
        self.records = [root / path for path in index["pre-trained", whole]["records"]]
        self.family = FAMILIES.get("open_clip")()
        self.protocol = PROTOCOLS.get(self.family.protocol)()
        self.data = {path.name.rsplit("-", 1)[0]: path for path in sorted((results / "data").iterdir())}
        heads = sorted((results / "heads" / self.base.name).iterdir())
        self.heads = {path.name.rsplit("-", 1)[0]: path for path in heads}
        made = read_json(self.merged / "manifest.json")["recipe"]["experts"]
        self.experts = {one["task"]: results / "experts" / one["id"] for one in made}

    def quantized(self, name: str, batch: int = 64, reverse: bool = False, threads: int = 1) -> tuple[Any, float]:
        """The quantized merge and its accuracy, averaged over tasks."""
        import torch

        from pmqbench.calibration import expert_of
        from pmqbench.quantization.base import QUANTIZERS
        from pmqbench.quantization.calibrate import quantize_model

        torch.set_num_threads(threads)
        tasks = list(reversed(self.experts)) if reverse else list(self.experts)
        calibration = {
            task: self.protocol.calibration_batches(
                self.data[task] / "train.safetensors", self.base, task, SAMPLES, seed=0, batch_size=batch
            )
            for task in tasks
        }
        experts = {task: expert_of(self.family, self.experts[task], f"expert {task}", "cpu") for task in tasks}
        model = self.family.build(self.merged, "merged model")
        method = QUANTIZERS.get(name)(bits=BITS, calibration_samples=SAMPLES)
        return quantize_model(model, method, calibration, experts), self.accuracy(model, 256)

    def accuracy(self, model: Any, batch: int) -> float:
        """Mean over tasks of the model's accuracy on the test splits, percent."""
        from pmqbench.evaluation.base import Assets

        found = []
        for task in self.experts:
            assets = Assets(self.base, self.heads[task])
            examples = self.protocol.examples(self.data[task] / "test.safetensors", assets)
            found.append(self.protocol.evaluate(model, examples, "accuracy", batch, "cpu", task).value)
        return 100 * sum(found) / len(found)

    def reordered(self, name: str) -> tuple[float, float]:
        """Of a merge with the experts reversed: share of the values that differ, and the largest difference in RMS weights."""
        import torch

        from pmqbench.merging.base import MERGERS
        from pmqbench.merging.engine import linear_weights, merge

        base, linear = self.family.checkpoint(self.base, "base"), linear_weights(self.family, self.base)
        experts = [self.family.checkpoint(path, f"expert {task}") for task, path in self.experts.items()]
        one, other = (merge(MERGERS.get(name)(), base, order, linear) for order in (experts, experts[::-1]))
        one, other = (torch.cat([tensor.double().flatten() for tensor in merged.values()]) for merged in (one, other))
        return float((one != other).double().mean()), float((one - other).abs().max() / one.square().mean().sqrt())


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results/ of a finished mini suite")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--merges", nargs="*", default=MERGES)
    options = parser.parse_args()
    mini = Mini(options.results.resolve())
    for name in options.merges:
        share, largest = mini.reordered(name)
        sys.stdout.write(f"{name:16} experts reversed: {share:8.2%} of the values differ, by up to {largest:.1e} RMS\n")
    for name in options.methods:
        usual, accuracy = mini.quantized(name)
        for variant, change in VARIANTS.items():
            other, there = mini.quantized(name, **change)
            differ = sum(int((usual.codes[layer].codes != other.codes[layer].codes).sum()) for layer in usual.codes)
            share = differ / sum(coded.codes.numel() for coded in usual.codes.values())
            sys.stdout.write(
                f"{name:6} {variant:16} {share:8.3%} of the codes differ, accuracy {accuracy:.2f} and {there:.2f}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
