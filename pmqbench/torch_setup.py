"""How every stage sets torch up before it computes: threads, determinism, device. All of it decides rounding."""

from __future__ import annotations

import os


def start_torch(threads: int) -> str:
    """Sets torch's threads and, on a GPU, deterministic kernels; returns the device: "cuda" if there is one, else "cpu"."""
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)  # SciPy's BLAS has threads of its own, and reads this as it is loaded

    import torch

    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        return "cpu"
    # Not on a CPU: its kernels are deterministic, and the call imports half of torch's compiler (1 s).
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False  # of convolutions, the patch embedding's: on by default, unlike that of products
    return "cuda"
