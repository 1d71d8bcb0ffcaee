"""Logging to a real `mlflow server`: suites side by side, a server that dies in the middle, and no record twice.

The server keeps its runs in SQLite, and in PostgreSQL where Debian's package and psycopg2 are installed.
"""

import os
import subprocess
import sys

import pytest

from pmqbench.reporting import tracking
from pmqbench.reporting.collect import collect_curves, write_table
from pmqbench.reporting.tracking import KEY, SUITE, Counts, TrackingError, track
from pmqbench.reporting.tracking_page import check_free, runs_link
from tests.browser import CHROMIUM, chromium
from tests.reporting.mlflow_servers import POSTGRESQL, Server, postgresql

NO_CURVES = collect_curves("mini", [])
PROGRAM = """\
import sys
from pmqbench.reporting.collect import collect_curves, read_table
from pmqbench.reporting.tracking import track
records, suite, store, *artefacts = sys.argv[1:]
print(track(read_table(records), collect_curves(suite, []), suite, artefacts, store))
"""


@pytest.fixture(scope="module", autouse=True)
def patience():
    """A busy machine's server may need longer for an answer than a user would wait."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        yield


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRESQL, reason="no PostgreSQL, or no psycopg2")),
    ],
)
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    if request.param == "sqlite":
        yield from running(Server(folder, f"sqlite:///{folder / 'mlflow.db'}"))
    else:
        with postgresql() as backend:
            yield from running(Server(folder, backend))


def running(server):
    server.start()
    yield server
    server.kill()


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


def track_side_by_side(server, folder, records, suites, *artefacts):
    """Jobs of several machines, which do not know of each other: what `track` locks lies in the folder for temporary files."""
    table = folder / "records.parquet"
    write_table(table, records)
    jobs = []
    for machine, suite in enumerate(suites):
        (folder / str(machine)).mkdir()
        command = (sys.executable, "-c", PROGRAM, table, suite, server.address, *artefacts)
        variables = os.environ | {"TMPDIR": str(folder / str(machine)), "PYTHONPATH": os.pathsep.join(sys.path)}
        jobs.append(subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return [output.strip() or errors for output, errors in (job.communicate() for job in jobs)]


def test_suites_log_side_by_side_and_one_that_two_machines_log_at_once_is_there_once_the_next_time(server, records, tmp_path):
    table = tmp_path / "leaderboard.csv"
    table.write_text("rank\n")
    one, *twice = track_side_by_side(server, tmp_path, records, ("one", "two", "two"), table)
    assert one == str(Counts(10, 0, 0))
    # Of two that log the same, one may find a run replaced by the other while it writes; it says what to do then.
    assert all(said.startswith("Counts(") or "run: snakemake track" in said for said in twice), twice
    track(records, NO_CURVES, "two", [table], server.address)
    for suite in ("one", "two"):
        assert_once(server, suite, 10)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_link_opens_the_runs(server, records, tmp_path):
    track(records, NO_CURVES, "seen", [], server.address)
    with chromium(tmp_path / "profile") as browser:
        browser.visit(runs_link(server.address, server.address))
        browser.wait("document.body.innerText.includes('ta, gptq, 4 bits, seed 2')")
        text = browser.run("document.body.innerText")
    assert "individual experts, digits" in text
    assert "pre-trained" in text
    with pytest.raises(TrackingError, match=rf"port {server.port} cannot be used: .*make ui PORT={server.port + 1}"):
        check_free(server.port)


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
            track(records, NO_CURVES, "cut", [], server.address)
    server.start()
    assert track(records, NO_CURVES, "cut", [], server.address) == Counts(7, 0, 3)
    assert track(records, NO_CURVES, "cut", [], server.address) == Counts(0, 0, 10)
    assert_once(server, "cut", 10)
