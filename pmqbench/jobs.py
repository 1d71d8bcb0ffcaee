"""What every script shares: log file, readable errors, warnings, and the manifest of what it made."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pmqbench.checkpoints import check_finite
from pmqbench.costs import Costs
from pmqbench.errors import PMQError, printable
from pmqbench.files import sha256_file, write_json
from pmqbench.provenance import peak_memory_mb, provenance

logger = logging.getLogger("pmqbench")


@dataclass(frozen=True)
class Made:
    """What a manifest tells of a model.

    Attributes:
        recipe: full description of what was done.
        inputs: files that went in, by name; their checksums are kept.
        started: perf_counter value at which the work began.
        size_bytes: what the weights take in storage.
        device: "cpu" or "cuda".
        costs: of what the model was made from, with the samples and labels that this step saw itself; its seconds are added.
            None for the base and the experts, which are given.
    """

    recipe: Mapping[str, Any]
    inputs: Mapping[str, Path]
    started: float
    size_bytes: int = 0
    device: str = "cpu"
    costs: Costs | None = None


class _Collector(logging.Handler):
    """Keeps what the project warns of: for the user's terminal now, for the artefact's manifest, and so for every report."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING and message not in self.messages:
            self.messages.append(message)
            sys.stderr.write(f"WARNING: {printable(message)}\n")


_collector = _Collector()


def taken_warnings() -> list[str]:
    """What the project's code has warned of since the last call, each once."""
    messages, _collector.messages = _collector.messages, []
    return messages


def show_warnings() -> None:
    """From now on the project's warnings go to stderr, and are kept for `taken_warnings`."""
    logger.addHandler(_collector)


def run_job(main: Callable[[Any], None], snakemake: Any) -> None:
    """Runs a script's `main(snakemake)` with logging into the rule's log file; the project's warnings also go to stderr.

    A PMQError ends the job with its message alone, on stderr and in the log; any other exception with its traceback too.
    """
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=log, filemode="w", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.captureWarnings(True)
    show_warnings()
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


def device_name(device: str) -> str:
    """The device as provenance tells it."""
    if device == "cpu":
        return device
    import torch

    return f"cuda: {torch.cuda.get_device_name()}"


def write_manifest(job: Any, folder: Path, made: Made) -> None:
    """Writes `folder`/manifest.json: what made the model, its size, what it cost, and what the job warned of."""
    checksums = {name: sha256_file(path) for name, path in made.inputs.items()}
    origin = provenance(made.recipe, checksums, job.params.code, device_name(made.device), job.threads)
    seconds = round(time.perf_counter() - made.started, 3)
    own = {"size_bytes": made.size_bytes, "seconds": seconds, "peak_memory_mb": peak_memory_mb()}
    costs = {} if made.costs is None else (made.costs + Costs(seconds)).stated()
    write_json(folder / "manifest.json", {**origin, **own, **costs, "warnings": taken_warnings()})


def finish_model(job: Any, family: Any, folder: Path, made: Made, label: str) -> None:
    """Checks that the model just written reads whole, and writes its manifest with the size of what is stored."""
    checkpoint = family.checkpoint(folder, label)
    size = 0
    for name, tensor in checkpoint.items():
        check_finite(tensor, f"{label}: {name}")
        size += tensor.nbytes
    write_manifest(job, folder, replace(made, size_bytes=size))
