"""How every stage sets torch up before it computes: threads, determinism, device. All of it decides rounding."""

from __future__ import annotations

import os

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
    torch.backends.cudnn.allow_tf32 = False  # of convolutions, the patch embedding's: on by default, unlike that of products
    return "cuda"
