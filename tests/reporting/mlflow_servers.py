"""A real `mlflow server`, and a PostgreSQL of Debian's packages for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pmqbench.reporting.tracking_page import SERVER, answers

INITDB = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
POSTGRESQL = INITDB is not None and importlib.util.find_spec("psycopg2") is not None
SECONDS = 300  # what a busy machine may need


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server of runs that can be killed and started again over the same store."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.port, self.folder, self.backend = free_port(), folder, backend
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it has read its store."""
        store = ("--backend-store-uri", self.backend, "--artifacts-destination", str(self.folder / "artefacts"))
        command = (sys.executable, "-m", "mlflow", "server", *store, "--port", str(self.port), "--workers", "1")
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | SERVER, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + SECONDS
        while not answers(f"{self.address}/api/2.0/mlflow/experiments/get?experiment_id=0"):
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database of a PostgreSQL that runs for as long; it refuses to run as root."""
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pmqbench-postgresql-"))  # pytest's folders are closed to other users
    port = free_port()
    try:
        if user:
            shutil.chown(folder, **user)
        initdb = (INITDB, "--pgdata", folder / "data", "--username", "pmqbench", "--auth", "trust", "--no-sync")
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **user)
        options = ("-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}")
        command = (Path(INITDB).with_name("postgres"), "-D", folder / "data", "-F", *options)
        with open(folder / "server.log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **user)
        try:
            deadline = time.monotonic() + SECONDS
            while "ready to accept connections" not in (said := (folder / "server.log").read_text()):
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
            yield f"postgresql://pmqbench@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait()
    finally:
        shutil.rmtree(folder)
