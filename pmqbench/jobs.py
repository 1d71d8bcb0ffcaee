"""What every script shares: log file, readable errors, warnings, and the manifest of what it made."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmqbench.checkpoints import check_finite
from pmqbench.costs import Costs
from pmqbench.errors import PMQError, printable
from pmqbench.exhausted import explained
from pmqbench.heartbeat import heartbeat
from pmqbench.integrity import TENSORS, checksum, verify
from pmqbench.integrity import write_manifest as write_sealed_manifest
from pmqbench.machine import kills_for_memory
from pmqbench.provenance import peak_memory_mb, provenance
from pmqbench.storage import link_results

if TYPE_CHECKING:
    from pmqbench.distributed import World

logger = logging.getLogger("pmqbench")

BEGAN = "on %s, %s threads, %s MB of memory asked for; %s kills for memory there before"
"""How a job's log begins, which `workflow/failures.py` reads."""


@dataclass(frozen=True)
class Made:
    """What a manifest tells of a model.

    Attributes:
        recipe: full description of what was done.
        inputs: files that went in, by name; their checksums are kept.
        started: perf_counter value at which the work began.
        size_bytes: what the weights take in storage.
        device: "cpu" or "cuda".
        processes: how many shared the work.
        costs: of what the model was made from, with the samples and labels that this step saw itself; its seconds are added.
            None for the base and the experts, which are given.
    """

    recipe: Mapping[str, Any]
    inputs: Mapping[str, Path]
    started: float
    size_bytes: int = 0
    device: str = "cpu"
    processes: int = 1
    costs: Costs | None = None


class _Collector(logging.Handler):
    """Keeps what the project warns of: for the user's terminal now, for the artefact's manifest, and so for every report."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self.aloud = True

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING and message not in self.messages:
            self.messages.append(message)
            if self.aloud:
                sys.stderr.write(f"WARNING: {printable(message)}\n")


_collector = _Collector()


def taken_warnings() -> list[str]:
    """What the project's code has warned of since the last call, each once."""
    messages, _collector.messages = _collector.messages, []
    return messages


def show_warnings(aloud: bool = True) -> None:
    """From now on the project's warnings are kept for `taken_warnings` and, if `aloud`, go to stderr."""
    _collector.aloud = aloud
    logger.addHandler(_collector)


class Stopped(SystemExit):
    """A signal asked the process to end. An exception, since a signal alone would leave behind what is half written."""


def stop_at_signals() -> None:
    """From now on Ctrl-C, `kill`, a closed terminal and a cluster's time limit raise Stopped; a second signal ends at once."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)


def bring_warnings(world: World) -> None:
    """Warns in the first process of what the others have warned of, for the log, the user and the manifest."""
    if world.size > 1:
        _, *others = world.all_of([[] if world.is_main else taken_warnings()])
        for message in dict.fromkeys(message for messages in others for message in messages) if world.is_main else ():
            if message not in _collector.messages:
                logger.warning("%s", message)


def run_job(main: Callable[[Any], None], snakemake: Any) -> None:
    """Runs a script's `main(snakemake)` with logging into the rule's log file; the project's warnings also go to stderr.

    What the job reads is verified first. A PMQError, a signal, and what libraries raise when memory or disk run out end the job
    with a message alone, on stderr and in the log; any other exception with its traceback too.
    """
    asked_mb = snakemake.resources.get("mem_mb")
    try:
        log_to(Path(snakemake.log[0]))
        logger.info("%s %s", snakemake.rule, dict(snakemake.wildcards))
        logger.info(BEGAN, platform.node(), snakemake.threads, asked_mb or "no", kills_for_memory())
        started = time.perf_counter()
        stop_at_signals()
        link_results(snakemake.input, snakemake.output)
        with heartbeat():
            verify(read_whole(snakemake), snakemake.threads)
            main(snakemake)
    except PMQError as error:
        logger.error("%s", error)
        sys.exit(f"error in {snakemake.rule}: {error}")
    except Stopped as signalled:
        logger.error("stopped by %s; the next run goes on from here.", signalled)
        sys.exit(f"{snakemake.rule}: stopped by {signalled}")
    except Exception as error:
        if (known := explained(error, asked_mb)) is None:
            logger.exception("unexpected error")
            raise
        logger.info("raised as", exc_info=True)
        logger.error("%s", known)
        sys.exit(f"error in {snakemake.rule}: {known}")
    logger.info("done in %.1f s, peak memory %.0f MB", time.perf_counter() - started, peak_memory_mb())


def log_to(log: Path) -> None:
    """From now on all that is logged goes to a file, which begins anew, and the project's warnings to stderr too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=log, filemode="w", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.raiseExceptions = False  # on a full disk every line would print a traceback
    logging.captureWarnings(True)
    show_warnings()


def read_whole(snakemake: Any) -> list[str]:
    """The files that a job reads, but for splits of images that calibration draws from: it checks those that it draws."""
    splits = snakemake.params.get("plan", {}).get("splits", ())
    drawn = {os.path.realpath(path) for path in splits if path.endswith(TENSORS)}  # inputs may lie elsewhere: remote storage
    return [path for path in snakemake.input if not drawn or os.path.realpath(path) not in drawn]


def device_name(device: str) -> str:
    """The device as provenance tells it."""
    if device == "cpu":
        return device
    import torch

    return f"cuda: {torch.cuda.get_device_name()}"


def write_manifest(job: Any, folder: Path, made: Made) -> None:
    """Writes `folder`/manifest.json: what made the model, its size and files, what it cost, and what the job warned of."""
    checksums = {name: checksum(path) for name, path in made.inputs.items()}
    origin = provenance(made.recipe, checksums, job.params.code, device_name(made.device), job.threads)
    origin["processes"] = made.processes
    seconds = round(time.perf_counter() - made.started, 3)
    own = {"size_bytes": made.size_bytes, "seconds": seconds, "peak_memory_mb": peak_memory_mb()}
    costs = {} if made.costs is None else (made.costs + Costs(seconds)).stated()
    write_sealed_manifest(folder, {**origin, **own, **costs, "warnings": taken_warnings()})


def finish_model(job: Any, family: Any, folder: Path, made: Made, label: str) -> None:
    """Checks that the model just written reads whole, and writes its manifest with the size of what is stored."""
    checkpoint = family.checkpoint(folder, label)
    size = 0
    for name, tensor in checkpoint.items():
        check_finite(tensor, f"{label}: {name}")
        size += tensor.nbytes
    write_manifest(job, folder, replace(made, size_bytes=size))
