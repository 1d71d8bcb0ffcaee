"""The suite that is disturbed, a project to disturb it in, and what must be equal in the end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

from tests.workflow.conftest import Project

INJECT = Path(__file__).parent / "inject"
CONFIG = ("--configfile", "small.yaml")
TARGETS = ("all", "leaderboard", "export")
TIMES = ["calibration_seconds"]
MEASURED = ("model", "task", "seed", "metric", "value", "n", "standard_error", "loss", "correct", "size_bytes")


def small_config() -> dict:
    """Two tasks, one seed; every stage once: choices for a merge and a quantizer, a merge that sees samples, a refinement."""
    alone = {"calibration_samples": 16, "merges": ["ta-val"]}
    return {
        "suite": "small",
        "family": "open_clip",
        "base": {"source": "local", "path": "models/base"},
        "experts": {"source": "local", "path": "models/{task}"},
        "tasks": ["digits", "textures"],
        "seeds": [0],
        "batch_jobs": True,
        "merges": {
            "ta-val": {"method": "task_arithmetic", "tune_scaling": [0.3, 1.0]},
            "regmean": {"method": "regmean", "calibration_samples": 16},
        },
        "quantizers": {
            "rtn": {"method": "rtn"},
            "epmq": {"method": "epmq", "tune": {"anchor": [0.1, 1.0]}, **alone},
            "distilled": {
                "method": "gptq",
                "refine": {"method": "distill", "calibration_samples": 16, "steps": 4},
                **alone,
            },
        },
    }


class Disturbed(Project):
    """A project whose runs can be disturbed from within a job (inject/sitecustomize.py)."""

    @property
    def results(self) -> Path:
        return self.work / "results"

    def run_disturbed(self, script: str, action: str, *arguments: str, event: int = 1, clock: float = 1) -> tuple[int, str]:
        """A run in which `action` happens when the job of `script` writes its n-th file; exit status and what the user sees."""
        marker = self.work.parent / f"marker-{script}"
        marker.unlink(missing_ok=True)
        Path(f"{marker}.go-on").unlink(missing_ok=True)
        self.marker = marker
        fault = {"script": script, "event": event, "action": action, "marker": str(marker), "clock": clock}
        variables = self.environment() | {"PMQ_TEST_FAULT": json.dumps(fault), "PYTHONPATH": str(INJECT)}
        screen = self.work.parent / "screen.txt"
        with screen.open("w") as file:
            run = subprocess.Popen(
                self.command(arguments), cwd=self.work, env=variables, start_new_session=True, stdout=file, stderr=file
            )
            code = run.wait(timeout=900)
        assert marker.exists(), f"{script} was not disturbed:\n{screen.read_text()[-3000:]}"
        return code, screen.read_text()

    def let_go(self) -> None:
        """Lets the orphan of a killed Snakemake go on."""
        Path(f"{self.marker}.go-on").touch()

    def make_space(self) -> None:
        """Removes what filled the disk."""
        (self.results / "ballast").unlink()

    def processes(self) -> list[int]:
        """Ids of running processes that work in this project's folder."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == self.work.resolve():
                    found.append(int(entry.name))
            except OSError:  # ended in this moment
                continue
        return found

    def wait_until_alone(self, seconds: float = 60) -> None:
        """Until no process of the run is left; those that stay are killed, and that is an error."""
        end = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert not left, f"{len(left)} processes of the run are still there"

    def unlock(self) -> None:
        self.snakemake(*CONFIG, "--unlock")

    def half_written(self) -> list[Path]:
        """Temporary files that a writer left behind."""
        return [path for path in self.results.rglob(".*") if path.is_file() and ".snakemake" not in path.parts]


def outcome(project: Project) -> dict[str, str]:
    """Everything of a finished run that must not depend on how it came about, by path: tables, records, models; times aside."""
    results = project.work / "results"
    found = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            parts = [(key, str(tensors[key].dtype), tensors[key].numpy(force=True).tobytes()) for key in sorted(tensors)]
            found[name] = hashlib.sha256(repr(parts).encode()).hexdigest()
        elif path.name in ("leaderboard.csv", "comparisons.csv", "index.csv"):
            found[name] = pd.read_csv(path).drop(columns=TIMES, errors="ignore").to_csv()
        elif name.startswith("evaluations/") and path.suffix == ".json":
            record = json.loads(path.read_text())
            found[name] = json.dumps({key: record[key] for key in MEASURED} | {"recipe": record["provenance"]["recipe"]})
    return found


def same(project: Project, reference: dict[str, str]) -> None:
    """Asserts that a run ended as the undisturbed one did."""
    found = outcome(project)
    assert sorted(found) == sorted(reference)
    assert [name for name in found if found[name] != reference[name]] == []


def python(project: Project, *arguments: str) -> subprocess.CompletedProcess:
    """Runs Python with the project's sources."""
    variables = project.environment() | {"PYTHONPATH": str(project.source)}
    return subprocess.run([sys.executable, *arguments], cwd=project.work, env=variables, capture_output=True, text=True)
