"""Logging to a real `mlflow server`: suites side by side, a server that dies in the middle, and no record twice.

The server keeps its runs in SQLite, and in the empty PostgreSQL database of PMQBENCH_TEST_POSTGRES (postgresql://...) if
that is set; it needs psycopg2.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from pmqbench.reporting import tracking
from pmqbench.reporting.collect import collect_curves
from pmqbench.reporting.tracking import KEY, SUITE, Counts, TrackingError, track
from pmqbench.reporting.tracking_page import check_free, runs_link

POSTGRES = os.environ.get("PMQBENCH_TEST_POSTGRES")
CURVES = collect_curves("mini", [])


class Server:
    """A server that can be killed and started again over the same store."""

    def __init__(self, folder, backend):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address, self.folder, self.backend = f"http://127.0.0.1:{self.port}", folder, backend

    def start(self):
        store = ("--backend-store-uri", self.backend, "--artifacts-destination", str(self.folder / "artefacts"))
        command = (sys.executable, "-m", "mlflow", "server", *store, "--port", str(self.port), "--workers", "1")
        variables = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, env=variables, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 240
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.5)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.address}/health", timeout=5).status == 200
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRES, reason="no PMQBENCH_TEST_POSTGRES"))],
)
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    one = Server(folder, f"sqlite:///{folder / 'mlflow.db'}" if request.param == "sqlite" else POSTGRES)
    one.start()
    yield one
    one.kill()


@pytest.fixture(scope="module")
def records(frame):
    return frame(merges={"ta": 0.6}, quantizers={"rtn": 0.0, "gptq": 0.1}, bits=(4,), n=30)


def runs_of(server, suite):
    """(parents, children) of a suite."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=server.address)
    experiment = client.get_experiment_by_name("PMQ-Bench").experiment_id
    found = client.search_runs([experiment], f"tags.`{SUITE}` = '{suite}'", max_results=1000)
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in children], children


def assert_once(server, suite, count):
    """Every record of the suite is in one finished run, under one finished parent."""
    (parent,), children = runs_of(server, suite)
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert len({run.data.tags[KEY] for run in children}) == len(children) == count
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}


def test_suites_of_two_machines_log_side_by_side_and_the_link_opens_their_runs(server, records, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "alone", lambda store: nullcontext())  # which is a lock of one machine
    table = tmp_path / "leaderboard.csv"
    table.write_text("rank\n")
    with ThreadPoolExecutor() as pool:
        logged = list(pool.map(lambda suite: track(records, CURVES, suite, [table], server.address), ("one", "two")))
    assert logged == [Counts(10, 0, 0)] * 2
    for suite in ("one", "two"):
        assert_once(server, suite, 10)
    (parent,), _ = runs_of(server, "one")
    assert runs_link(server.address, server.address).endswith(f"/#/experiments/{parent.info.experiment_id}/runs")
    with pytest.raises(TrackingError, match=rf"make ui PORT={server.port + 1}"):
        check_free(server.port)


def test_a_suite_that_two_machines_log_at_once_is_there_once_the_next_time(server, records, monkeypatch):
    with monkeypatch.context() as patched, ThreadPoolExecutor() as pool:
        patched.setattr(tracking, "alone", lambda store: nullcontext())
        list(pool.map(lambda _: track(records, CURVES, "same", [], server.address), range(2)))
    track(records, CURVES, "same", [], server.address)
    assert_once(server, "same", 10)


def test_a_server_that_dies_in_the_middle_loses_nothing(server, records, monkeypatch):
    log_child, calls = tracking.log_child, []

    def until_the_fourth(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            server.kill()
        log_child(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(tracking, "log_child", until_the_fourth)
        with pytest.raises(TrackingError, match=r"records are safe.*snakemake track"):
            track(records, CURVES, "cut", [], server.address)
    server.start()
    assert track(records, CURVES, "cut", [], server.address) == Counts(7, 0, 3)
    assert track(records, CURVES, "cut", [], server.address) == Counts(0, 0, 10)
    assert_once(server, "cut", 10)
