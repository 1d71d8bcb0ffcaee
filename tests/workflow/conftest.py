"""A copy of the project and a tiny suite of two tasks on random open_clip models, run once for all workflow tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]
PARTS = (
    "Snakefile",
    "README.md",
    "rules",
    "scripts",
    "config",
    "pmqbench",
    "envs",
    "profiles",
    "docs",
    "snakemake_logger_plugin_pmqbench",
)
VISION = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 2, "head_width": 16, "mlp_ratio": 2.0}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


class Project:
    """A copy of the project's sources and a working folder with results of its own.

    Attributes:
        variables: added to Snakemake's environment.
        prefix: a command, with its arguments, that runs it.
    """

    def __init__(self, source: Path, work: Path) -> None:
        self.source, self.work = source, work
        self.variables: dict[str, str] = {}
        self.prefix: tuple[str, ...] = ()

    def snakemake(self, *arguments: str, code: int | None = 0, timeout: int = 1800) -> str:
        """Runs Snakemake in the working folder; returns its output. `code` None accepts any exit status."""
        done = subprocess.run(
            self.command(arguments),
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        output = done.stdout + done.stderr
        assert code is None or done.returncode == code, output[-6000:]
        return output

    def start(self, *arguments: str) -> subprocess.Popen:
        """Starts Snakemake in a process group of its own."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self.command(arguments), cwd=self.work, env=self.environment(), start_new_session=True, **quiet)

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        return [
            *self.prefix,
            sys.executable,
            "-m",
            "snakemake",
            "-s",
            str(self.source / "Snakefile"),
            "--cores",
            "2",
            *arguments,
        ]

    def environment(self) -> dict[str, str]:
        return environment() | self.variables

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a dry-run would do."""
        output = self.snakemake("-n", "--quiet", "rules", *arguments)
        return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}

    def copy(self, folder: Path) -> "Project":
        """Sources and results as they are, for a test that changes them."""
        shutil.copytree(
            self.source, folder / "source", ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copy2
        )
        shutil.copytree(self.work, folder / "work", symlinks=True, copy_function=shutil.copy2)
        return Project(folder / "source", folder / "work")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHONPATH", "MAKE"))}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def tiny_config() -> dict:
    quantizers = {name: {"method": name, "calibration_samples": 16} for name in ("gptq", "awq", "epmq")}
    quantizers["epmq"]["tune"] = {"anchor": [0.1, 1.0]}
    distilled = {"method": "distill", "calibration_samples": 16, "steps": 4}
    quantizers["distilled"] = {**quantizers["gptq"], "merges": ["ta"], "refine": distilled}
    return {
        "suite": "tiny",
        "family": "open_clip",
        "base": {"source": "local", "path": "models/base"},
        "experts": {"source": "local", "path": "models/{task}"},
        "tasks": ["digits", "textures"],
        "seeds": [0, 1],
        "batch_jobs": True,
        "merges": {"ta": {"method": "task_arithmetic"}, "ties-val": {"method": "ties", "tune_scaling": [0.3, 1.0]}},
        "quantizers": {"rtn": {"method": "rtn"}, **quantizers},
    }


def write_models(folder: Path) -> None:
    """A random base (a whole CLIP) and two experts (vision towers) near it, in open_clip's hub layout."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    from pmqbench.families.open_clip import CONFIG, WEIGHTS
    from pmqbench.files import write_json

    model_cfg = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}
    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    torch.manual_seed(0)
    base = {name: tensor.contiguous() for name, tensor in open_clip.CLIP(**model_cfg).state_dict().items()}
    visual = {name: tensor for name, tensor in base.items() if name.startswith("visual.") and name != "visual.proj"}
    experts = {task: {name: t + 0.02 * torch.randn_like(t) for name, t in visual.items()} for task in ("digits", "textures")}
    for name, tensors in {"base": base, **experts}.items():
        (folder / name).mkdir(parents=True)
        save_file(tensors, folder / name / WEIGHTS)
        write_json(folder / name / CONFIG, {"model_cfg": model_cfg, "preprocess_cfg": preprocess})
    (folder / "base" / "README.md").write_text("---\nlicense: mit\n---\nA base.")


def write_project(folder: Path, name: str, config: dict) -> tuple[Path, Path]:
    """Writes a checkout, and a working folder with models and a config file, nothing run yet; returns both."""
    source, work = folder / "source", folder / "work"
    source.mkdir()
    work.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, source / part)
    write_models(work / "models")
    (work / name).write_text(yaml.safe_dump(config, sort_keys=False))
    return source, work


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Project:
    """Sources, models and config, nothing run yet."""
    return Project(*write_project(tmp_path_factory.mktemp("project"), "tiny.yaml", tiny_config()))


@pytest.fixture(scope="session")
def done(fresh, tmp_path_factory) -> Project:
    """The tiny suite, run to its report: once for all of xdist's workers, each of which has a copy of its own."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny"
    finished = folder / "finished"
    with FileLock(folder.with_suffix(".lock")):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            fresh.copy(folder).snakemake("--configfile", "tiny.yaml")
            finished.touch()
    return Project(folder / "source", folder / "work").copy(tmp_path_factory.mktemp("done"))


@pytest.fixture
def edited(done, tmp_path) -> Project:
    """A copy of the finished run for a test that edits it."""
    return done.copy(tmp_path)
