"""A task's data, from its source to the files of its splits, with the checks that need more than one example."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmqbench.errors import listed
from pmqbench.tasks.kinds.base import Task
from pmqbench.tasks.overlap import check_files, find_overlap, fingerprints
from pmqbench.tasks.sources.base import UNCHECKED

log = logging.getLogger(__name__)


def prepare(task: Task, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Writes a task's splits.

    Args:
        task: the task.
        paths: split -> file to write, in the order train, validation, test.

    Returns:
        For the data's manifest: source and commit; `examples` of each split; `class_names`, how they were matched to
        labels; `overlap` between the splits, and `allow_overlap`; `classes_without_test_examples`.

    Raises:
        DataError: the data do not fit the task, or its splits are not disjoint.
    """
    where = f"task {task.name}"
    source, commit = task.data_source().pinned()
    if not source.allow_overlap:
        check_files(_own_files(source, task, paths), where)
    counts = {
        split: task.write_split(path, source.split(task, split), f"{where}, split {split}") for split, path in paths.items()
    }
    if task.test_examples not in (None, counts["test"]):
        log.warning("%s: there are %d test examples; the published split has %d.", where, counts["test"], task.test_examples)
    return {
        "source": task.source,
        "commit": commit,
        "examples": counts,
        "class_names": _label_check(source, task, where),
        "allow_overlap": source.allow_overlap,
        "overlap": find_overlap({s: fingerprints(path) for s, path in paths.items()}, source.allow_overlap, where),
        "classes_without_test_examples": _untested(task, paths["test"], where),
    }


def _own_files(source: Any, task: Task, paths: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Files of each split but of a validation split that is cut out of the training split."""
    files = {split: list(source.files_of(task, split)) for split in paths}
    return {split: found for split, found in files.items() if split != "validation" or found != files["train"]}


def _label_check(source: Any, task: Task, where: str) -> str:
    """How class names were matched to labels; a warning if nothing tells, and the names are numbers in another order."""
    said = source.label_check(task, "test")
    names = task.classes or ()
    if said == UNCHECKED and all(name.isdecimal() for name in names) and list(names) != [str(i) for i in range(len(names))]:
        message = (
            '%s: labels are numbers and so are the class names; label 0 is taken as "%s". Write the names as labels if not.'
        )
        log.warning(message, where, names[0])
    return said


def _untested(task: Task, path: Path, where: str) -> list[str]:
    """Classes that no test example has; a warning names them."""
    names = task.classes
    if names is None:
        return []
    tested = set(task.classes_in(path))
    lacking = [name for name in names if name not in tested]
    if lacking:
        message = "%s: %d of %d classes have no test example (%s), so the result says nothing about them."
        log.warning(message, where, len(lacking), len(names), listed(lacking, 5))
    return lacking
