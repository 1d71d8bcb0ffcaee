"""Serves MLflow's pages of the runs: python -m pmqbench.reporting.tracking_page results --port 5000."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pmqbench.errors import PMQError
from pmqbench.reporting.runs import scrub
from pmqbench.reporting.tracking import EXPERIMENT, TrackingError, database, explained, set_environment, tracking_store

HOST = "127.0.0.1"
# One reader needs one process; MLflow would start four, and eight more that evaluate language models.
ONE_PROCESS = ("--workers", "1", "--uvicorn-opts", "--log-level warning")
BEST_FIRST = "orderByKey=metrics.%60average%60&orderByAsc=false"
SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}


def runs_link(store: str, address: str) -> str:
    """The address of the table of runs, the best average first.

    In that order MLflow shows the models' runs one below the other; in its own, by time, they hide under their parent.

    Args:
        store: MLflow tracking URI.
        address: of the server that shows it.

    Raises:
        TrackingError: nothing was logged yet, or the store cannot be reached.
    """
    set_environment()
    from mlflow.tracking import MlflowClient

    path, found = database(store), None
    if path is None or path.is_file():
        with explained(store, "Is MLFLOW_TRACKING_URI right, and its server up?"):
            found = MlflowClient(tracking_uri=store).get_experiment_by_name(EXPERIMENT)
    if found is None:
        raise TrackingError("there are no runs yet.", where=scrub(store), remedy="Run: make")
    return f"{address}/#/experiments/{found.experiment_id}/runs?{BEST_FIRST}"


def check_free(port: int) -> None:
    """Refuses a port that cannot be listened at: one in use, one that is the administrator's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed a moment ago is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            what = f"port {port} cannot be used: {error.strerror}."
            raise TrackingError(what, where=HOST, remedy=f"Choose another one: make ui PORT={max(port, 5000) + 1}") from error


@contextmanager
def serving(store: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the store's pages, from when it answers; it is stopped in the end.

    Args:
        store: MLflow tracking URI.
        port: where it listens on HOST.

    Raises:
        TrackingError: the port is taken, or the server ends before it answers.
    """
    check_free(port)
    command = (sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), *ONE_PROCESS)
    variables = os.environ | SERVER | {"MLFLOW_BACKEND_STORE_URI": store}  # not on the command line: it may hold a password
    process = subprocess.Popen(command, env=variables, start_new_session=True)
    try:
        while not answers(f"http://{HOST}:{port}/health"):
            if (status := process.poll()) is not None:
                raise TrackingError(f"MLflow's server ended with status {status}; its message is above.", where=scrub(store))
            time.sleep(0.2)
        yield process
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGKILL)  # MLflow's command does not end the server that it started; it only reads
        process.wait()


def answers(address: str) -> bool:
    """Whether a server answers there."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def main(results: Path, port: int) -> None:
    """Prints the link, and serves a store until interrupted, unless it is a server itself."""
    store = tracking_store(results)
    if store.startswith(("http://", "https://")):
        print(f"MLflow runs: {scrub(runs_link(store, store.rstrip('/')))}")
        return
    link = runs_link(store, f"http://{HOST}:{port}")
    with serving(store, port) as process:
        print(f"MLflow runs: {link} (Ctrl-C ends the server)", flush=True)
        if status := process.wait():
            raise TrackingError(f"MLflow's server ended with status {status}; its message is above.", where=scrub(store))


def port(text: str) -> int:
    """A port's number; ValueError if it is none."""
    if not 0 < (number := int(text)) < 65536:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves MLflow's pages of the runs.")
    parser.add_argument("results", type=Path, help="the results folder")
    parser.add_argument("--port", type=port, default=5000, help="where to serve them on 127.0.0.1, 1 to 65535")
    given = parser.parse_args()
    for ended in (signal.SIGTERM, signal.SIGHUP):  # also then the server goes with us
        signal.signal(ended, lambda number, _: sys.exit(128 + number))
    try:
        main(given.results, given.port)
    except PMQError as error:
        parser.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        print()
