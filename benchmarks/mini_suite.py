"""The mini suite's figures and its sample picture: `python benchmarks/mini_suite.py measure` or `... samples`.

`measure` (minutes) trains base and experts as the workflow does (base on two threads, then two experts at a time), merges them
and prints docs/mini-suite.md's tables: accuracies on the validation split, and seconds. `samples` (seconds) draws
docs/images/mini-samples.png. Neither sees a quantized model: the suite's difficulty is set without them.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))


from pmqbench.sources.mini import BASE_THREADS

if TYPE_CHECKING:
    import torch

    from pmqbench.tasks.definitions import Task

ROOT = Path(__file__).parents[1]
TASKS = ("digits", "textures", "signs", "landuse")
MERGES = {
    "simple average": ("simple_average", {}),
    **{f"Task Arithmetic {scaling}": ("task_arithmetic", {"scaling": scaling}) for scaling in (0.3, 0.4, 0.5, 0.6)},
    "TIES 0.3": ("ties", {"scaling": 0.3}),
}
EXPERTS_AT_A_TIME = 2
SAMPLE_PICTURE = ROOT / "docs/images/mini-samples.png"
SAMPLES = 3


class Bench:
    """Base, experts, heads and data below one folder, in the layouts the workflow uses."""

    def __init__(self, folder: Path, seed: int) -> None:
        from pmqbench.families.open_clip import OpenClip
        from pmqbench.sources.mini import MiniModels
        from pmqbench.tasks.definitions import load_task

        self.folder, self.family, self.source = folder, OpenClip(), MiniModels(seed=seed)
        self.tasks = [load_task(name) for name in TASKS]

    def data(self, task: Task, split: str) -> Path:
        """File of a split."""
        return self.folder / "data" / f"{task.name}-{split}.safetensors"

    def head(self, task: Task) -> Path:
        """File of a task's zero-shot head."""
        return self.folder / "heads" / f"{task.name}.safetensors"

    def make_data(self) -> None:
        """Training and validation splits of all tasks."""
        from pmqbench.tasks.splits import save_split

        for task in self.tasks:
            for split in ("train", "validation"):
                save_split(self.data(task, split), *task.data_source().split(task, split), len(task.classnames), task.name)

    def make_base(self) -> None:
        """The base, and every task's head."""
        from pmqbench.checkpoints import save_checkpoint

        data = {task.name: self.data(task, "train") for task in self.tasks}
        self.source.fetch_base(self.folder / "base", self.family, data, self.tasks)
        for task in self.tasks:
            head = self.family.head(self.folder / "base", list(task.classnames), list(task.templates))
            save_checkpoint(self.head(task), head)

    def make_expert(self, task: Task) -> None:
        """One expert."""
        files = self.folder / "base", self.data(task, "train"), self.head(task)
        self.source.fetch_expert(self.folder / task.name, self.family, task, *files)

    def make_merge(self, name: str) -> None:
        """One merge at full precision."""
        from pmqbench.merging.base import MERGERS
        from pmqbench.merging.engine import merge

        method, options = MERGES[name]
        base, *experts = (self.family.checkpoint(self.folder / model) for model in ("base", *TASKS))
        self.family.save(self.folder / name, merge(MERGERS.get(method)(**options), base, experts), self.folder / "base", {})

    def accuracies(self, model: str) -> list[float]:
        """Validation accuracy of a model on every task, percent."""
        from pmqbench.evaluation.base import Assets
        from pmqbench.evaluation.protocols.zero_shot import ZeroShot

        tower = self.family.build(self.folder / model)
        protocol, base = ZeroShot(), self.folder / "base"
        splits = [protocol.examples(self.data(task, "validation"), Assets(base, self.head(task))) for task in self.tasks]
        return [100 * protocol.evaluate(tower, split, "accuracy", 500, "cpu", model).value for split in splits]

    def nearest(self, task: Task) -> float:
        """Largest cosine between two classes of a task's head."""
        from safetensors.torch import load_file

        classes: torch.Tensor = load_file(self.head(task))["classes"]
        return (classes @ classes.T).fill_diagonal_(-1).max().item()


def train_experts(bench: Bench) -> None:
    """All experts, each in a process of its own."""
    with ProcessPoolExecutor(EXPERTS_AT_A_TIME, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(bench.make_expert, bench.tasks))


def measure(seed: int) -> None:
    """Prints the tables of docs/mini-suite.md."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), seed)
        seconds = {}
        for stage, work in (
            ("images (train and validation)", bench.make_data),
            ("base and heads", bench.make_base),
            ("experts, imports included", lambda: train_experts(bench)),
        ):
            started = time.perf_counter(), processor_seconds()
            work()
            seconds[stage] = time.perf_counter() - started[0], processor_seconds() - started[1]
        for name in MERGES:
            bench.make_merge(name)
        print_accuracies(bench)
        print_seconds(seconds, seed)


def print_accuracies(bench: Bench) -> None:
    """The table of accuracies, and the nearest classes of each head."""
    print(f"| validation accuracy, % | {' | '.join(TASKS)} | average |\n|---|{'---|' * (len(TASKS) + 1)}")
    experts = {f"expert {task}": bench.accuracies(task) for task in TASKS}
    own = [accuracies[index] for index, accuracies in enumerate(experts.values())]
    rows = {"base": bench.accuracies("base"), **experts, "**each expert on its own task**": own}
    for name, accuracies in (rows | {name: bench.accuracies(name) for name in MERGES}).items():
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in [*accuracies, sum(accuracies) / len(TASKS)])} |")
    print(f"| largest cosine between two classes | {' | '.join(f'{bench.nearest(task):.2f}' for task in bench.tasks)} | |")


def processor_seconds() -> float:
    """Processor time of this process and its finished children so far: hardly depends on what else the machine does."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def print_seconds(seconds: dict[str, tuple[float, float]], seed: int) -> None:
    """The table of times."""
    print(f"\nSeed {seed}, {datetime.datetime.now(datetime.UTC).date()}, base on {BASE_THREADS} threads,")
    print(f"{EXPERTS_AT_A_TIME} experts at a time on one thread each; load average at the end {os.getloadavg()[1]:.1f}.")
    print("\n| stage | seconds | processor seconds |\n|---|---|---|")
    for stage, (wall, processor) in seconds.items():
        print(f"| {stage} | {wall:.0f} | {processor:.0f} |")


def draw_samples() -> None:
    """Draws `SAMPLES` training images of every class."""
    import matplotlib.pyplot as plt
    import numpy as np

    from pmqbench.files import atomic_path
    from pmqbench.sources.mini import HELD_OUT_EVERY
    from pmqbench.tasks.definitions import load_task

    figure = plt.figure(figsize=(9.6, 8.4), layout="constrained")
    for name, part in zip(TASKS, figure.subfigures(len(TASKS), 1), strict=True):
        task = load_task(name)
        images, labels = task.data_source().split(task, "train")
        axes = part.subplots(1, 12)
        part.suptitle(name, fontsize=11, fontweight="bold", x=0.01, ha="left")
        for label, axis in enumerate(axes):
            axis.axis("off")
            if label < len(task.classnames):
                column = np.concatenate(images[labels == label][:SAMPLES], axis=1)
                held_out = label % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
                axis.imshow(column.transpose(1, 2, 0), interpolation="nearest")
                axis.set_title(task.classnames[label] + (" *" if held_out else ""), fontsize=8)
    with atomic_path(SAMPLE_PICTURE) as temporary:
        figure.savefig(temporary, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "samples"])
    parser.add_argument("--seed", type=int, default=0, help="seed of the models (measure)")
    arguments = parser.parse_args()
    if arguments.what == "measure":
        measure(arguments.seed)
    else:
        draw_samples()
