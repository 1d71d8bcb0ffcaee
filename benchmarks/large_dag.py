"""Seconds and memory of Snakemake's planning of a large suite: `python -m benchmarks.large_dag [--profile]`.

20 tasks x 8 merges x 8 quantizers x 5 seeds, a job for each task of each model, from the hub, nothing done yet: a dry-run in an
empty folder. Prints jobs, wall-clock and processor seconds, and the peak memory of Snakemake; with --profile also where the
time goes (which takes twice as long).
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MERGES = ("simple_average", "task_arithmetic", "ties", "dare", "breadcrumbs", "tsv_m", "iso_c", "wudi")
QUANTIZERS = ("rtn", "gptq", "awq", "epmq", "qep", "gptaq", "qronos", "autoround")


def config() -> dict:
    """The suite."""
    return {
        "suite": "large",
        "family": "clip",
        "base": {"source": "hub", "id": "openai/clip-vit-large-patch14"},
        "experts": {"source": "hub", "id": "tanganke/clip-vit-large-patch14_{task}"},
        "tasks": "tall20",
        "seeds": [0, 1, 2, 3, 4],
        "merges": {name: {"method": name} for name in MERGES},
        "quantizers": {name: {"method": name} for name in QUANTIZERS},
    }


def main() -> None:
    """Plans the suite once and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="print the functions that take the most time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "large.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
        stats = Path(folder, "stats")
        watched = ["-m", "cProfile", "-o", str(stats)] if args.profile else []
        command = ["-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--quiet", "rules", "--cores", "8"]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *watched, *command, "--configfile", "large.yaml"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(done.stdout[-3000:])
        (jobs,) = set(re.findall(r"^total +(\d+)$", done.stdout, re.MULTILINE))
        processor, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        sys.stdout.write(f"{jobs} jobs: {seconds:.0f} s, {processor:.0f} processor seconds, {memory:.0f} MiB\n")
        if args.profile:
            import pstats

            pstats.Stats(str(stats)).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
