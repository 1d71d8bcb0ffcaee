"""Peak memory of merging 2 and 8 synthetic experts, each merge in a process of its own: `python benchmarks/merging_memory.py`.

Prints a line per method and number of experts. "resident" is the peak of the whole process beyond its imports, in models
(float32 copies of the base), pages of mapped checkpoint files included. The parent stays small and imports no torch: a child's
peak begins at its parent's size.
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

METHODS = {
    "simple_average": ("simple_average", {}),
    "task_arithmetic": ("task_arithmetic", {}),
    "ties": ("ties", {}),
    "ties mergekit": ("ties", {"trim": "tensor", "zero_sign": "positive", "aggregate": "mean", "scaling": 1.0}),
}


def write_models(folder: Path, experts: int, tensors: int, side: int) -> None:
    """base.safetensors and e0.safetensors ... with `tensors` square float32 matrices each."""
    import torch

    from pmqbench.checkpoints import save_checkpoint

    generator = torch.Generator().manual_seed(0)
    base = {f"w{i}": torch.randn(side, side, generator=generator) for i in range(tensors)}
    save_checkpoint(folder / "base.safetensors", base)
    for expert in range(experts):
        tuned = {n: v + 0.01 * torch.randn(v.shape, generator=generator) for n, v in base.items()}
        save_checkpoint(folder / f"e{expert}.safetensors", tuned)


def merge_once(folder: Path, name: str, options: dict, experts: int) -> dict[str, float]:
    """Merges in this process; MiB beyond the imports, and seconds."""
    import torch

    from pmqbench.checkpoints import Checkpoint
    from pmqbench.merging.base import MERGERS
    from pmqbench.merging.engine import merge

    torch.zeros(8).double().sum()
    before, start = peak_mib(), time.perf_counter()
    files = [Checkpoint(folder / f"{stem}.safetensors") for stem in ("base", *(f"e{i}" for i in range(experts)))]
    merge(MERGERS.get(name)(**options), files[0], files[1:])
    return {"mib": peak_mib() - before, "seconds": time.perf_counter() - start}


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Runs every method with 2 and 8 experts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=96)
    parser.add_argument("--side", type=int, default=1000, help="rows and columns of each tensor")
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "LABEL", "EXPERTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        folder, label, experts = Path(args.worker[0]), args.worker[1], int(args.worker[2])
        if label == "write":
            write_models(folder, experts, args.tensors, args.side)
        else:
            sys.stdout.write(json.dumps(merge_once(folder, *METHODS[label], experts)))
        return
    command = [sys.executable, __file__, "--tensors", str(args.tensors), "--side", str(args.side), "--worker"]
    model = args.tensors * args.side**2 * 4 / 2**20
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*command, folder, "write", "8"], check=True)
        sys.stdout.write(f"one model: {model:.0f} MiB\n{'method':16} experts  resident  seconds\n")
        for label in METHODS:
            for experts in (2, 8):
                run = subprocess.run([*command, folder, label, str(experts)], check=True, stdout=subprocess.PIPE)
                result = json.loads(run.stdout)
                sys.stdout.write(f"{label:16} {experts:7} {result['mib'] / model:8.2f}x {result['seconds']:8.1f}\n")


if __name__ == "__main__":
    main()
