"""The suite that is disturbed, a project to disturb it in, and what must be equal in the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
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
TARGETS = ("all", "ablations", "leaderboard", "export")
LAST = {  # of a stage whose jobs are of other rules, as more or less of them is done: the rules that a run goes to
    "calibrate_seeds": ("calibrate_seeds", "calibrate_model"),
    "evaluate_model": ("collect_records",),
}
GROUPS = {
    "question": "What do groups add?",
    "merges": ["ta-val"],
    "quantizers": ["rtn"],
    "variants": {"channel": {}, "groups": {"group_size": 8}},
}
TIMES = ["calibration_seconds"]
HASH = re.compile(r"-[0-9a-f]{8}\b")
MEASURED = ("task", "seed", "metric", "value", "n", "standard_error", "loss", "correct", "size_bytes")


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
        "targets": {"ablations": {"figures": {"groups": GROUPS}}},
    }


def publish(source: Path) -> None:
    """Gives the suite published numbers to compare its own with."""
    experts = {"label": "individual", "kind": "expert", "source": "s", "values": [9.0, 9.0]}
    numbers = {"tasks": ["digits", "textures"], "tolerance": {"default": 50}, "sources": {"s": "a paper"}, "rows": [experts]}
    (source / "pmqbench/reporting/references/small.json").write_text(json.dumps(numbers))


class Disturbed(Project):
    """A project whose runs can be disturbed from within a job (inject/sitecustomize.py)."""

    @property
    def results(self) -> Path:
        return self.work / "results"

    def start_disturbed(
        self, script: str, action: str, *arguments: str, event: int = 1, clock: float = 1, group: Path | None = None
    ) -> subprocess.Popen:
        """Starts a run in which `action` happens when the job of `script` writes its n-th file; the leader of a process group.

        Args:
            clock: how many times faster the job's clock goes.
            group: the control group of the action "move to group".
        """
        self.screen = self.work.parent / "screen.txt"
        before = len(list(self.work.parent.glob("marker-*")))
        self.marker = self.work.parent / f"marker-{before}-{script}-{action}"
        fault = {"script": script, "event": event, "action": action, "marker": str(self.marker), "clock": clock}
        variables = self.environment() | {"PMQ_TEST_FAULT": json.dumps(fault), "PMQ_TEST_GROUP": str(group)}
        variables["PYTHONPATH"] = str(INJECT)
        with self.screen.open("w") as screen:
            streams = {"stdout": screen, "stderr": screen}
            return subprocess.Popen(
                # Ctrl-C is ignored by what is begun in the background of a script, as these tests may be.
                ["env", "--default-signal=INT", *self.command(arguments)],
                cwd=self.work,
                env=variables,
                start_new_session=True,
                **streams,
            )

    def run_disturbed(self, script: str, action: str, *arguments: str, **options) -> tuple[int, str]:
        """A run of `start_disturbed` to its end; exit status and what the user sees."""
        code = self.start_disturbed(script, action, *arguments, **options).wait(timeout=3000)
        screen = self.screen.read_text()
        assert self.marker.exists(), f"{script} was not disturbed:\n{screen[-3000:]}"
        return code, screen

    def wait_until_disturbed(self) -> None:
        """Until it has happened."""
        end = time.monotonic() + 600
        while not self.marker.exists():
            assert time.monotonic() < end, self.screen.read_text()[-3000:]
            time.sleep(0.1)

    def end(self) -> None:
        """Ends all processes of this project."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)

    def let_go(self) -> None:
        """Lets the orphans of killed Snakemakes go on."""
        for marker in self.work.parent.glob("marker-*-kill Snakemake"):
            Path(f"{marker}.go-on").touch()

    def make_space(self) -> None:
        """Removes what filled the disk."""
        (self.results / "ballast").unlink(missing_ok=True)

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

    def wait_until_alone(self, seconds: float = 300) -> None:
        """Until no process of the run is left; those that stay are killed, and that is an error."""
        end = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        self.end()
        assert not left, f"{len(left)} processes of the run are still there"

    def unlock(self) -> None:
        self.snakemake(*CONFIG, "--unlock")

    def doctor(self, *arguments: str, code: int | None = 0) -> str:
        """Runs `pmqbench doctor`; returns its output."""
        command = [sys.executable, "-m", "pmqbench.cli", "doctor", *arguments]
        variables = self.environment() | {"PYTHONPATH": str(self.source)}
        done = subprocess.run(command, cwd=self.work, env=variables, capture_output=True, text=True)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def half_written(self) -> list[Path]:
        """Temporary files that a writer left behind."""
        return [path for path in self.results.rglob(".*") if path.is_file() and ".snakemake" not in path.parts]


def until(rule: str) -> tuple[str, ...]:
    """Arguments that run no further than a stage."""
    return (*CONFIG, "--until", *LAST.get(rule, (rule,)), "--", *TARGETS)


def outcome(project: Project) -> dict[str, str]:
    """Everything of a finished run that must not depend on how it came about: tables, records, models; times aside.

    By path without the hashes in it, which name the user's models by place and time. MLflow's copies of the reports are left
    out: their folders are called by its own random ids.
    """
    results = project.work / "results"
    found = {}
    for path in sorted(set(results.rglob("[!.]*")) - set(results.glob("artefacts/**/*"))):
        name = HASH.sub("", path.relative_to(results).as_posix())
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            parts = [(key, str(tensors[key].dtype), tensors[key].numpy(force=True).tobytes()) for key in sorted(tensors)]
            found[name] = hashlib.sha256(repr(parts).encode()).hexdigest()
        elif path.suffix == ".csv":
            found[name] = HASH.sub("", pd.read_csv(path).drop(columns=TIMES, errors="ignore").to_csv())
        elif name.startswith("evaluations/") and path.suffix == ".json":
            record = json.loads(path.read_text())
            found[name] = json.dumps({key: record[key] for key in MEASURED})
    return found


def finish(project: Project, *options: str) -> None:
    """Runs everything to its end. The joint leaderboard is of the reports that there are when a run begins, so twice."""
    for _ in range(2):
        project.snakemake(*(options or CONFIG), "--", *TARGETS)


def is_of_suite(name: str) -> bool:
    """Whether `all` makes it; the undisturbed run has an ablation, exports and the joint leaderboard too."""
    return not name.startswith(("exported/", "leaderboard.", "suites/small@ablations/")) and "-g8/" not in name


def same(project: Project, reference: dict[str, str]) -> None:
    """Asserts that a run ended as the undisturbed one did."""
    found = outcome(project)
    assert found.keys() == reference.keys(), found.keys() ^ reference.keys()
    different = [name for name in found if found[name] != reference[name]]
    assert not different, "\n".join(f"{name}:\n{found[name]}\n{reference[name]}" for name in different)[:6000]
