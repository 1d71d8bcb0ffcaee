"""Results in a remote storage (Snakemake's storage plugins): a job finds them where a local run has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pmqbench.errors import ConfigError

RESULTS = "results"


def link_results(inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Lets paths below results/ lead to Snakemake's local copies of a job's files.

    With a storage provider a rule's results/merged/x is .snakemake/storage/s3/bucket/prefix/results/merged/x while a job runs,
    and a job is told of folders, not of every file. Nothing happens where outputs lie in results/ itself: an input that does
    not may be a file of the user's own, whatever the folders above it are called.

    Args:
        inputs: of the job.
        outputs: of the job, each below results/ or below a storage's copy of it.

    Raises:
        ConfigError: results/ has a folder of its own in the place of one that is in the storage.
    """
    outputs = list(map(str, outputs))
    storage, found, _ = outputs[0].rpartition(f"/{RESULTS}/")
    if not found:
        return
    copies = Path(storage, RESULTS)
    below = [Path(file).relative_to(copies) for file in (*map(str, inputs), *outputs) if Path(file).is_relative_to(copies)]
    for folder in dict.fromkeys(path.parts[0] for path in below if len(path.parts) > 1):
        _link(Path(RESULTS, folder), (copies / folder).absolute())


def _link(place: Path, copies: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    try:
        place.symlink_to(copies)
    except FileExistsError:
        if not place.is_symlink() or place.readlink() != copies:
            what = f"this run keeps it in a storage ({copies.parent}), but there is another one here."
            raise ConfigError(what, where=str(place), remedy="Work in an empty folder.") from None
