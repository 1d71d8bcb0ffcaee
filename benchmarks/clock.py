"""Times the stages of the layer loop from outside, by wrapping the functions that do the work."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Seconds by stage; a stage's time does not count for the one it runs in."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running = threading.local()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what runs inside."""
        synchronise()
        inner = self._running.__dict__.setdefault("inner", [0.0])
        inner.append(0.0)
        began = time.perf_counter()
        try:
            yield
        finally:
            synchronise()
            spent = time.perf_counter() - began
            self.seconds[name] += spent - inner.pop()
            inner[-1] += spent

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """Replaces a function by one that is timed."""
        function = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        setattr(owner, attribute, timed)


def synchronise() -> None:
    """Waits for a GPU, so that its work counts for the stage that asked for it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def watch_stages(clock: Clock) -> None:
    """Times the parts of the layer loop."""
    from pmqbench.quantization import bit_allocation, block_reconstruction, calibrate, moments, problem, solvers, streams
    from pmqbench.quantization import metric as metrics
    from pmqbench.quantization.methods import gptaq

    clock.watch(streams.Stream, "inputs", "forward")
    clock.watch(streams.Stream, "advance", "forward")
    clock.watch(moments.TaskMoments, "add", "moments")
    clock.watch(moments.TaskMoments, "finish", "moments")
    clock.watch(moments.Pool, "share", "experts' cross terms")
    clock.watch(metrics, "factorise", "factorise")
    clock.watch(gptaq, "asymmetric", "target")
    clock.watch(metrics.Metric, "solve", "target")
    clock.watch(solvers, "round_with_feedback", "solve")
    clock.watch(solvers, "descend", "descent")
    clock.watch(solvers, "method_grid", "ranges")
    clock.watch(calibrate, "layer_records", "records")
    clock.watch(bit_allocation, "_outputs", "sensitivities")
    clock.watch(block_reconstruction, "reconstruct_block", "block reconstruction")
    clock.watch(problem.Problem, "expert_teacher", "read experts (in part beside the rest)")
