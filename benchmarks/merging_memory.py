"""Peak memory of merging 2 and 8 synthetic experts, each merge in a process of its own: `python benchmarks/merging_memory.py`.

Prints a line per method and number of experts; the models have the blocks of ViT-B/32. "resident" is the peak of the whole
process beyond its imports, in models (float32 copies of the base), pages of mapped checkpoint files included. The parent stays
small and imports no torch: a child's peak begins at its parent's size.
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

from pmqbench.merging.base import MERGERS

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


def write_models(folder: Path, experts: int, layers: int, width: int) -> None:
    """base.safetensors and e0.safetensors ... with the float32 matrices and biases of a ViT's blocks."""
    import torch

    from pmqbench.checkpoints import save_checkpoint

    generator = torch.Generator().manual_seed(0)
    shapes = {f"{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
    shapes |= {"fc1": (4 * width, width), "fc2": (width, 4 * width)}
    base = {}
    for name, shape in ((f"layers.{i}.{name}", shape) for i in range(layers) for name, shape in shapes.items()):
        base |= {f"{name}.weight": torch.randn(shape, generator=generator), f"{name}.bias": torch.zeros(shape[0])}
    save_checkpoint(folder / "base.safetensors", base)
    for expert in range(experts):
        tuned = {n: v + 0.01 * torch.randn(v.shape, generator=generator) for n, v in base.items()}
        save_checkpoint(folder / f"e{expert}.safetensors", tuned)


def merge_once(folder: Path, recipe: dict, experts: int) -> dict[str, float]:
    """Merges in this process; MiB beyond the imports, and seconds."""
    import torch

    from pmqbench.checkpoints import Checkpoint
    from pmqbench.merging.base import merger_of
    from pmqbench.merging.engine import merge

    torch.zeros(8).double().sum()
    before, start = peak_mib(), time.perf_counter()
    files = [Checkpoint(folder / f"{stem}.safetensors") for stem in ("base", *(f"e{i}" for i in range(experts)))]
    merge(merger_of(recipe), files[0], files[1:], [name for name in files[0].names() if name.endswith(".weight")])
    return {"mib": peak_mib() - before, "seconds": time.perf_counter() - start}


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Runs every method with 2 and 8 experts."""
    recipes = {name: {"method": name, "options": {}} for name in MERGERS.names()} | VARIANTS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="of the blocks; 768 is ViT-B/32")
    parser.add_argument("--methods", nargs="+", choices=recipes, default=list(recipes))
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "LABEL", "EXPERTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        folder, label, experts = Path(args.worker[0]), args.worker[1], int(args.worker[2])
        if label == "write":
            write_models(folder, experts, args.layers, args.width)
        else:
            sys.stdout.write(json.dumps(merge_once(folder, recipes[label], experts)))
        return
    command = [sys.executable, __file__, "--layers", str(args.layers), "--width", str(args.width), "--worker"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, folder, "write", "8"], check=True)
        model = (Path(folder) / "base.safetensors").stat().st_size / 2**20
        sys.stdout.write(f"one model: {model:.0f} MiB\n{'method':20} experts  resident  seconds\n")
        for label in args.methods:
            for experts in (2, 8):
                run = subprocess.run([*command, folder, label, str(experts)], check=True, stdout=subprocess.PIPE)
                result = json.loads(run.stdout)
                sys.stdout.write(f"{label:20} {experts:7} {result['mib'] / model:8.2f}x {result['seconds']:8.1f}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
