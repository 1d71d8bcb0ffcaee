"""Logs a suite's records to MLflow: one parent run per suite, one child run per model and seed.

The records are the truth and MLflow a view of them, so logging is idempotent: a run carries its record's key and digest as
tags, equal runs are kept, changed and unfinished ones are replaced. Processes take turns: several that open a fresh SQLite
store together break it for good.

An SQLite store keeps its artefacts in a folder beside it. MLflow writes that folder's absolute path into the store, for the
experiment and for every run, so that a store which was copied or moved goes on writing to where it was made: `settle` corrects
the paths before anything is logged.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import pandas as pd

from pmqbench.errors import PMQError
from pmqbench.exhausted import NO_SPACE
from pmqbench.files import sha256_file
from pmqbench.reporting.runs import LoggedRun, Point, SuiteRun, logged_runs, scrub, suite_run

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
EXPERIMENT = "PMQ-Bench"
KEY, DIGEST, SUITE, ARTEFACT = "pmqbench.key", "pmqbench.digest", "pmqbench.suite", "pmqbench.artefact."
PARENT = "mlflow.parentRunId"
KIND = "mlflow.experimentKind"  # without it, MLflow's pages open on an empty view for language models
SQLITE = "sqlite:///"
PAGE = 500
LONGEST_REASON = 150
BATCH_METRICS, BATCH_PARAMS = 500, 100  # MLflow takes 1000 and 100, 1000 together
# MLflow's own defaults retry a dead server for four minutes. Set before the import; a user's own values win.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a run
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class TrackingError(PMQError):
    """MLflow's store cannot be reached or written."""


@dataclass(frozen=True)
class Counts:
    """Child runs: new ones, replaced ones (changed, unfinished), and those found unchanged."""

    logged: int
    replaced: int
    skipped: int


def tracking_store(results: str | Path) -> str:
    """MLflow store: MLFLOW_TRACKING_URI if set, else an SQLite file in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{(Path(results) / 'mlflow.db').resolve()}"


def track(records: pd.DataFrame, curves: pd.DataFrame, suite: str, artefacts: Sequence[str | Path], store: str) -> Counts:
    """Brings MLflow in line with the records.

    Args:
        records: as from `collect`.
        curves: as from `collect_curves`: metrics with a history, at the runs of the refined models.
        suite: the suite's name.
        artefacts: tables and plots, logged at the parent run under their file names.
        store: MLflow tracking URI. `sqlite:///<path>` keeps artefacts in the folder "artefacts" beside that file; of any other
            store, where artefacts go is its own affair.

    Returns:
        What was done to the child runs. Runs of models that left the suite stay.

    Raises:
        TrackingError: the store cannot be reached or written; the records are not affected.
    """
    set_environment()
    from mlflow.tracking import MlflowClient

    with explained(store, "The records are safe. Once MLflow can be reached, run: snakemake track"), alone(store):
        client = MlflowClient(tracking_uri=store)
        experiment = find_experiment(client, store)
        parent, outdated = log_parent(client, experiment, suite, suite_run(records))
        counts = log_children(client, experiment, suite, parent.info.run_id, logged_runs(records, curves))
        log_artefacts(client, parent, artefacts)
        for run in outdated:
            client.delete_run(run.info.run_id)
    log.info(
        "MLflow %s: %d runs logged, %d replaced, %d unchanged", scrub(store), counts.logged, counts.replaced, counts.skipped
    )
    return counts


def set_environment() -> None:
    """Gives MLflow our defaults; must come before its first import."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def explained(store: str, remedy: str) -> Iterator[None]:
    """Raises what goes wrong with a store as a TrackingError that tells where, why in a line, and the remedy."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError, OSError) as error:
        if NO_SPACE.search(str(error)):
            remedy = "Free some space; then run: snakemake track"
        raise TrackingError(
            f"MLflow failed: {reason(str(error) or repr(error))}.", where=scrub(store), remedy=remedy
        ) from error


def reason(message: str) -> str:
    """An error's message in brief; of a request without an answer, the last of the reasons that stand one in the other."""
    line = scrub(message).splitlines()[0]
    if "failed with exception" in line:
        innermost = line.rsplit(": ", 1)[-1]
        line = "no answer: " + innermost.rstrip("'\")")
    return line.rstrip(".")[:LONGEST_REASON]


@contextmanager
def alone(store: str) -> Iterator[None]:
    """Waits until no other process of this user and machine logs to the same store.

    An SQLite file would break, a server would take a run twice. Of runs that two machines logged at once, the next time
    leaves one.
    """
    path = database(store)
    if path is None:
        lock = Path(tempfile.gettempdir()) / f"pmqbench-{os.getuid()}-{hashlib.sha256(store.encode()).hexdigest()[:16]}.lock"
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock")
    with open(lock, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def database(store: str) -> Path | None:
    """The file of an SQLite store; None for a server."""
    return Path(store.removeprefix(SQLITE)).resolve() if store.startswith(SQLITE) else None


def find_experiment(client: MlflowClient, store: str) -> str:
    """Id of the experiment EXPERIMENT, made if need be; an SQLite store's artefacts lie beside it from here on."""
    path, found = database(store), client.get_experiment_by_name(EXPERIMENT)
    location = None if path is None else (path.parent / "artefacts").as_uri()
    if found is None:
        return create_experiment(client, location)
    local = urlparse(found.artifact_location).scheme in ("", "file")  # else chosen by whoever made the experiment
    if path is not None and local and found.artifact_location != location:
        settle(path, found.experiment_id, found.artifact_location, location)
    return found.experiment_id


def create_experiment(client: MlflowClient, location: str | None) -> str:
    """Makes the experiment EXPERIMENT, unless another machine has made it in this moment; returns its id."""
    from mlflow.exceptions import MlflowException

    try:
        return client.create_experiment(EXPERIMENT, artifact_location=location, tags={KIND: "custom_model_development"})
    except MlflowException:
        if (found := client.get_experiment_by_name(EXPERIMENT)) is None:
            raise
        return found.experiment_id


def settle(path: Path, experiment: str, old: str, new: str) -> None:
    """Moves an experiment's artefact location, and that of its runs, from one URI to another; MLflow itself has no call for it.

    Files are not touched: a copied results folder brings its own, and `log_artefacts` uploads what is missing.
    """
    log.info("%s was copied or moved: artefacts go to %s instead of %s from now on", path, new, old)
    with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, int(experiment)))
        connection.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            (new, len(old) + 1, int(experiment), len(old), old),
        )


def search(client: MlflowClient, experiment: str, condition: str) -> Iterator[Run]:
    """All runs of the experiment that meet a filter, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], condition, max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def log_parent(client: MlflowClient, experiment: str, suite: str, run: SuiteRun) -> tuple[Run, list[Run]]:
    """The suite's parent run, made if there is none that says the same, and others of the suite, to be deleted in the end.

    MLflow changes no parameter of a run, so a suite that has changed gets a new parent.
    """
    found = list(search(client, experiment, f"tags.`{KEY}` = '{suite}'"))
    equal = next((one for one in found if one.data.tags.get(DIGEST) == run.digest), None)
    if equal is None:
        equal = client.create_run(experiment, run_name=suite, tags={KEY: suite, SUITE: suite})
        write(client, equal.info.run_id, run.metrics, run.params, {DIGEST: run.digest})
    return equal, [one for one in found if one is not equal]


def log_children(client: MlflowClient, experiment: str, suite: str, parent: str, runs: Sequence[LoggedRun]) -> Counts:
    """Logs what is new or changed, and deletes what it replaces."""
    known: dict[str, list[Run]] = {}
    for run in search(client, experiment, f"tags.`{SUITE}` = '{suite}' and tags.`{PARENT}` LIKE '%'"):
        if run.data.tags[PARENT] != parent:
            client.set_tag(run.info.run_id, PARENT, parent)
        known.setdefault(run.data.tags[KEY], []).append(run)
    logged = replaced = skipped = 0
    for run in runs:
        old = known.get(run.key, [])
        equal = [other for other in old if other.info.status == "FINISHED" and other.data.tags[DIGEST] == run.digest][:1]
        if not equal:
            tags = {KEY: run.key, DIGEST: run.digest, SUITE: suite, PARENT: parent}
            log_child(client, experiment, run, tags)
        # The successor is whole before its predecessor goes, so a kill in between loses nothing.
        for other in old:
            if other not in equal:
                client.delete_run(other.info.run_id)
        skipped, replaced, logged = skipped + bool(equal), replaced + bool(old and not equal), logged + (not old)
    return Counts(logged, replaced, skipped)


def log_child(client: MlflowClient, experiment: str, run: LoggedRun, tags: Mapping[str, str]) -> None:
    """Writes one run and finishes it."""
    run_id = client.create_run(experiment, run_name=run.name, tags=dict(tags)).info.run_id
    write(client, run_id, run.metrics, run.params, run.tags, run.history)
    client.set_terminated(run_id)


def write(
    client: MlflowClient,
    run_id: str,
    metrics: Mapping[str, float],
    params: Mapping[str, str],
    tags: Mapping[str, str],
    history: Sequence[Point] = (),
) -> None:
    """Writes what a run says, in batches that MLflow takes; the tags come last."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    values = [Metric(name, value, now, 0) for name, value in metrics.items()]
    values += [Metric(point.name, point.value, now + point.milliseconds, point.step) for point in history]
    named = [Param(name, value) for name, value in params.items()]
    batches = max(1, ceil(len(values) / BATCH_METRICS), ceil(len(named) / BATCH_PARAMS))
    for batch in range(batches):
        client.log_batch(
            run_id,
            metrics=values[batch * BATCH_METRICS : (batch + 1) * BATCH_METRICS],
            params=named[batch * BATCH_PARAMS : (batch + 1) * BATCH_PARAMS],
            tags=[RunTag(name, value) for name, value in tags.items()] if batch == batches - 1 else (),
        )


def log_artefacts(client: MlflowClient, parent: Run, artefacts: Sequence[str | Path]) -> None:
    """Uploads to the parent the files that it has not, or not with the digest among its tags, and finishes it."""
    held = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    for path in map(Path, artefacts):
        tag, value = ARTEFACT + path.name, sha256_file(path)
        if path.name not in held or parent.data.tags.get(tag) != value:
            client.log_artifact(parent.info.run_id, str(path))
            client.set_tag(parent.info.run_id, tag, value)
    if parent.info.status != "FINISHED":
        client.set_terminated(parent.info.run_id)
