"""What every script shares: log file, readable errors, threads, device, and the manifest of what it made."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pmqbench.checkpoints import check_finite
from pmqbench.errors import PMQError
from pmqbench.files import sha256_file, write_json
from pmqbench.provenance import peak_memory_mb, provenance

logger = logging.getLogger("pmqbench")


def run_job(main: Callable[[Any], None], snakemake: Any) -> None:
    """Runs a script's `main(snakemake)` with logging into the rule's log file.

    A PMQError ends the job with its message alone, on stderr and in the log; any other exception with its traceback too.
    """
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=log, filemode="w", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.captureWarnings(True)
    logger.info("%s %s", snakemake.rule, dict(snakemake.wildcards))
    started = time.perf_counter()
    try:
        main(snakemake)
    except PMQError as error:
        logger.error("%s", error)
        sys.exit(f"error in {snakemake.rule}: {error}")
    except Exception:
        logger.exception("unexpected error")
        raise
    logger.info("done in %.1f s, peak memory %.0f MB", time.perf_counter() - started, peak_memory_mb())


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


def device_name(device: str) -> str:
    """The device as provenance tells it."""
    if device == "cpu":
        return device
    import torch

    return f"cuda: {torch.cuda.get_device_name()}"


def write_manifest(
    folder: Path,
    recipe: Mapping[str, Any],
    inputs: Mapping[str, Path],
    code: str,
    size_bytes: int,
    seconds: float,
    device: str = "cpu",
    threads: int = 1,
) -> None:
    """Writes `folder`/manifest.json: recipe, checksums of the inputs, versions, size, seconds, peak memory."""
    checksums = {name: sha256_file(path) for name, path in inputs.items()}
    made = provenance(recipe, checksums, code, device_name(device), threads)
    write_json(
        folder / "manifest.json",
        {**made, "size_bytes": size_bytes, "seconds": round(seconds, 3), "peak_memory_mb": peak_memory_mb()},
    )


def finish_model(
    job: Any, family: Any, folder: Path, recipe: Mapping[str, Any], inputs: Mapping[str, Path], started: float, label: str
) -> None:
    """Checks that the model just written reads whole, and writes its manifest; `started` is a perf_counter value."""
    checkpoint = family.checkpoint(folder, label)
    size = 0
    for name, tensor in checkpoint.items():
        check_finite(tensor, f"{label}: {name}")
        size += tensor.nbytes
    write_manifest(folder, recipe, inputs, job.params.code, size, time.perf_counter() - started, threads=job.threads)


def expert_folders(job: Any) -> dict[str, Path]:
    """Task -> folder of its expert, from the job's `tasks` and `experts`."""
    folders = list(dict.fromkeys(Path(path).parent for path in job.input.experts))
    return dict(zip(job.params.tasks, folders, strict=True))


def tracking_store() -> str:
    """MLflow store: MLFLOW_TRACKING_URI if set, else a SQLite file in the results of the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('results/mlflow.db').resolve()}"
