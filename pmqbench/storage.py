"""Results in a remote storage (Snakemake's storage plugins): a job finds them where a local run has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pmqbench.errors import ConfigError

RESULTS = "results"


def link_results(files: Iterable[str]) -> None:
    """Lets paths below results/ lead to Snakemake's local copies of a job's files.

    With a storage provider a rule's results/merged/x is .snakemake/storage/s3/bucket/prefix/results/merged/x while a job runs,
    and a job is told of folders, not of every file. Nothing happens where files lie in results/ itself.

    Args:
        files: inputs and outputs of the job.

    Raises:
        ConfigError: results/ has a folder of its own in the place of one that is in the storage.
    """
    for file in map(str, files):
        storage, found, path = file.partition(f"/{RESULTS}/")
        if found and "/" in path:
            folder = path.partition("/")[0]
            _link(Path(RESULTS, folder), Path(storage, RESULTS, folder).absolute())


def _link(place: Path, copies: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    try:
        place.symlink_to(copies)
    except FileExistsError:
        if not place.is_symlink() or place.readlink() != copies:
            what = f"this run keeps it in a storage ({copies.parent}), but there is another one here."
            raise ConfigError(what, where=str(place), remedy="Work in an empty folder.") from None
