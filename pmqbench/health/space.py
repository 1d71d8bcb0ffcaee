"""What a results folder takes, and what its file system has left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pmqbench.health.findings import Finding
from pmqbench.machine import disk

LOW_GB = 1.0
LOW_SHARE = 0.02


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder; of links themselves, not of what they point to."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def gigabytes(folder: Path) -> str:
    """'3.1 GB', or MB of what is smaller."""
    size = size_of(folder)
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def largest(results: Path) -> str:
    """'quantized 0.7 GB, experts 0.1 GB': what takes most."""
    sizes = {part: size_of(part) for part in results.iterdir() if part.is_dir()}
    ranked = sorted(sizes, key=sizes.__getitem__, reverse=True)[:4]
    return ", ".join(f"{part.name} {gigabytes(part)}" for part in ranked)


def space_finding(results: Path) -> Iterator[Finding]:
    """A file system that is all but full."""
    mount, free, whole = disk(results)
    if free < max(LOW_GB, LOW_SHARE * whole) and free < LOW_GB * 10:
        thing = f"{mount} has {free:.1f} of {whole:.1f} GB left"
        yield Finding(
            "space", (thing,), "Free some: results/quantized takes most, and what is deleted is made again when it is needed."
        )
