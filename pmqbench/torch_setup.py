"""How every stage sets torch up before it computes: threads, determinism, device. All of it decides rounding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pmqbench.devices import take_devices, visible


def start_torch(threads: int, gpus: int = 1) -> str:
    """Sets torch's threads and, on a GPU, deterministic kernels.

    Args:
        threads: of this process.
        gpus: how many devices the job is to have for itself where the machine has any; 0: it computes on the CPU.

    Returns:
        The device: "cuda" or "cpu".
    """
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)  # SciPy's BLAS has threads of its own, and reads this as it is loaded
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS may add in another order each time

    import torch

    torch.set_num_threads(threads)
    # The count asks the driver's library and leaves CUDA asleep: once awake it would not see what take_devices hides.
    count = torch.cuda.device_count() if gpus else 0
    if not count:
        return "cpu"
    take_devices(gpus, visible(count))
    if not torch.cuda.is_available():
        return "cpu"
    # Not on a CPU: its kernels are deterministic, and the call imports half of torch's compiler (1 s).
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs a pass over every new tensor; nothing reads them
    torch.backends.cudnn.allow_tf32 = False  # of convolutions, the patch embedding's: on by default, unlike that of products
    return "cuda"


@contextmanager
def strictly_deterministic() -> Iterator[None]:
    """Where `start_torch` chose deterministic kernels, an operation without one is an error inside, not a warning.

    For backward passes: attention's has such a kernel, but takes it only then.
    """
    import torch

    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
