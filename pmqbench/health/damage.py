"""Artefacts that are not what was written: by their checksums, or by what shows without reading weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pmqbench.errors import DataError
from pmqbench.health.findings import Finding
from pmqbench.health.leftovers import NAMED
from pmqbench.heartbeat import each
from pmqbench.integrity import CHOICE, MANIFEST, UnsealedError, read_manifest, read_sealed, verify, verify_tensors
from pmqbench.records import folder_of, read_record, tells_of

MODELS = ("experts", "merged", "quantized")
RECORDS = "evaluations"
OLDER = "without checksums, which today's code does not read"
REMOVE = "The next run makes them again: pmqbench doctor --remove"


def artefacts(results: Path) -> list[Path]:
    """Folders of data and models, by their manifests."""
    return sorted(path.parent for part in ("data", *MODELS) for path in (results / part).rglob(MANIFEST))


def unknown_finding(results: Path) -> Iterator[Finding]:
    """Folders of weights without a manifest: of jobs that were killed, whose run makes them anew, or of somebody's own."""
    weights = (path for part in ("data", *MODELS) for path in (results / part).rglob(f"{NAMED}.safetensors"))
    folders = sorted({path.parent for path in weights} - {*artefacts(results)})
    if folders:
        way_out = "A run that needs them makes them anew. Whatever else they are: results/ is no place for files of your own."
        things = tuple(f"{folder}: it has no manifest, so nothing tells what made it" for folder in folders)
        yield Finding("of unknown origin", things, way_out, harmful=False)


def files_of(folder: Path) -> tuple[Path, ...]:
    """What makes an artefact: its folder's files, links too, but for temporaries and a choice, which was made before."""
    return tuple(
        sorted(
            path
            for path in folder.iterdir()
            if (path.is_symlink() or path.is_file()) and not path.name.startswith(".") and path.name != CHOICE
        )
    )


def check_artefact(folder: Path, quick: bool) -> None:
    """Raises DataError for a folder whose manifest is damaged, or one of whose files is not what it states.

    Args:
        folder: the artefact's.
        quick: whether to look at manifests, and whether files are there, alone.
    """
    stated = read_manifest(folder)["files"]
    if quick:
        for name in stated:
            if not (folder / name).is_file():
                verify([folder / name])
    else:
        verify(folder / name for name in stated)


def check_table(path: Path) -> None:
    """Raises DataError for a table that cannot be read."""
    from pmqbench.reporting.collect import read_table

    read_table(path)


def damage_findings(results: Path, quick: bool) -> Iterator[Finding]:
    """Damaged artefacts with the files to delete, and files of the user's own that changed or went."""
    checks: list[tuple[tuple[Path, ...], Callable[[], Any]]] = []
    folders = artefacts(results)
    checks += [(files_of(folder), lambda folder=folder: check_artefact(folder, quick)) for folder in folders]
    sealed = [
        *results.glob(f"merged/*/{CHOICE}"),
        *results.glob(f"quantized/*/*/{CHOICE}"),
        *results.glob(f"gates/{NAMED}.json"),
    ]
    checks += [((path,), lambda path=path: read_sealed(path)) for path in sealed]
    checks += [((path,), lambda path=path: verify_tensors(path)) for path in results.glob(f"heads/*/{NAMED}.safetensors")]
    checks += [((path,), lambda path=path: check_table(path)) for path in results.glob(f"suites/*/{NAMED}.parquet")]
    told = [(files, _said(files, check)) for files, check in each(checks, "checked")]
    found = [said for _, said in told if said and said[0] != OLDER]
    older = [files for files, said in told if said and said[0] == OLDER]
    own = [(said, files) for said, files in found if any(path.is_symlink() and not path.exists() for path in files)]
    unreadable = [pair for pair in found if not pair[1]]
    rest = [pair for pair in found if pair not in own and pair not in unreadable]
    if own:
        way_out = "Put the files back where they were; or run again with other ones, after pmqbench doctor --remove"
        yield Finding("broken links", *_told(own, way_out))
    if unreadable:
        yield Finding(
            "unreadable",
            *_told(unreadable, "The system refuses to read them: whose are they (ls -l), is the disk sound (dmesg)?"),
        )
    if rest:
        yield Finding("damaged", *_told(rest, REMOVE))
    if older:
        yield _of_an_older_version("artefacts and tables", older)


def _said(files: tuple[Path, ...], check: Callable[[], Any]) -> tuple[str, tuple[Path, ...]] | None:
    """What is wrong, in a line, and what to delete: nothing of what the system would not read; None if nothing is wrong."""
    try:
        check()
    except UnsealedError:
        return OLDER, files
    except DataError as error:
        return f"{error.where}: {error.what}", files
    except OSError as error:
        return f"{error.filename or files[0]}: {error.strerror}", ()
    return None


def _of_an_older_version(what: str, found: Iterable[tuple[Path, ...]]) -> Finding:
    found = list(found)
    remove = tuple(path for files in found for path in files)
    return Finding("of an older version", (f"{len(found)} {what} {OLDER}",), REMOVE, remove=remove)


def _told(found: Iterable[tuple[str, tuple[Path, ...]]], way_out: str) -> tuple[Any, ...]:
    found = list(found)
    remove = tuple(path for _, files in found for path in files)
    return tuple(said for said, _ in found), way_out, True, remove


def record_findings(results: Path) -> Iterator[Finding]:
    """Records that are damaged, that tell of other weights than their model has now, and those whose model is gone."""
    manifests: dict[Path, Mapping[str, Any] | None] = {}
    damaged, older, other, gone = [], [], [], Counter()
    for path in each(sorted((results / RECORDS).rglob(f"{NAMED}.json")), "records"):
        try:
            record = read_record(path)
        except UnsealedError:
            older.append((path,))
            continue
        except DataError as error:
            damaged.append((f"{error.where}: {error.what}", (path,)))
            continue
        folder = folder_of(record.model, results)
        if folder not in manifests:
            manifests[folder] = _manifest(folder)
        if manifests[folder] is None:
            gone[folder] += 1
        elif not tells_of(record, manifests[folder]):
            other.append((f"{path}: {folder} has other weights by now", (path,)))
    if damaged:
        yield Finding("damaged records", *_told(damaged, REMOVE))
    if older:
        yield _of_an_older_version("records", older)
    if other:
        yield Finding("outdated records", *_told(other, REMOVE))
    if gone:
        way_out = "Nothing is wrong with the records; a run that needs the model makes it again."
        things = tuple(
            f"{folder} is gone or damaged, and has {count} record{'s' if count > 1 else ''}" for folder, count in gone.items()
        )
        yield Finding("records alone", things, way_out, harmful=False)


def _manifest(folder: Path) -> Mapping[str, Any] | None:
    """A model's manifest; None if the model is gone or damaged, which is a finding of its own."""
    try:
        return read_manifest(folder) if (folder / MANIFEST).is_file() else None
    except DataError:
        return None
