"""Opens MLflow's pages of the runs: python -m pmqbench.reporting.tracking_page results --port 5000."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
from pathlib import Path

from pmqbench.errors import PMQError
from pmqbench.reporting.runs import scrub
from pmqbench.reporting.tracking import EXPERIMENT, TrackingError, database, set_environment, tracking_store

HOST = "127.0.0.1"


def runs_link(store: str, address: str) -> str:
    """The address of the page with the suite's runs.

    Args:
        store: MLflow tracking URI.
        address: of the server that shows it.

    Raises:
        TrackingError: nothing was logged yet, or the store cannot be reached.
    """
    set_environment()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    path, found = database(store), None
    try:
        if path is None or path.is_file():
            found = MlflowClient(tracking_uri=store).get_experiment_by_name(EXPERIMENT)
    except MlflowException as error:
        raise TrackingError(f"MLflow failed: {scrub(str(error)).splitlines()[0][:300]}", where=scrub(store)) from error
    if found is None:
        raise TrackingError("there are no runs yet.", where=scrub(store), remedy="Run: make")
    return f"{address}/#/experiments/{found.experiment_id}/runs"


def check_free(port: int) -> None:
    """Refuses a port at which something listens."""
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise TrackingError(f"port {port} is taken.", where=HOST, remedy=f"Choose another one: make ui PORT={port + 1}")


def main(results: Path, port: int) -> None:
    """Prints the link, and serves an SQLite store until interrupted; another store has a server of its own."""
    store = tracking_store(results)
    if database(store) is None:
        print(f"MLflow runs: {scrub(runs_link(store, store.rstrip('/')))}")
        return
    check_free(port)
    print(f"MLflow runs: {runs_link(store, f'http://{HOST}:{port}')} (Ctrl-C ends the server)", flush=True)
    command = (sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--host", HOST, "--port", str(port))
    try:
        subprocess.run(command, check=True)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Opens MLflow's pages of the runs.")
    parser.add_argument("results", type=Path, help="the results folder")
    parser.add_argument("--port", type=int, default=5000, help="where to serve them on 127.0.0.1")
    given = parser.parse_args()
    try:
        main(given.results, given.port)
    except PMQError as error:
        parser.exit(1, f"{error}\n")
