"""What made an artefact: recipe, inputs, code, libraries, machine. It tells of numbers and changes none."""

from __future__ import annotations

import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "scipy", "pillow", "open_clip_torch", "transformers", "datasets", "safetensors", "snakemake")
CPU_INFO = Path("/proc/cpuinfo")
CPU_FIELDS = ("model name", "cpu family", "model", "stepping")


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


@cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES}


@cache
def processor() -> str:
    """The CPU's name and, on Linux, its family, model and stepping: virtual machines share names, but not kernels."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or platform.machine()
    lines = CPU_INFO.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines() if CPU_INFO.is_file() else []
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name, *numbers = (known.get(field, "") for field in CPU_FIELDS)
    return f"{name} ({'-'.join(numbers)})" if name else platform.machine()


def kernels() -> dict[str, str]:
    """What does this process's linear algebra: torch's build and each BLAS that is loaded, with the instructions they use.

    A library chooses its kernels by processor, so numbers differ in the last digits between machines, and with them which way a
    weight is rounded. Libraries that are not loaded are left out, and none is imported.
    """
    from threadpoolctl import threadpool_info

    found = {
        f"{blas['internal_api']} ({Path(blas['filepath']).parent.name})": f"{blas['version']} {blas.get('architecture', '')}"
        for blas in threadpool_info()
        if blas["user_api"] == "blas"
    }
    if torch := sys.modules.get("torch"):
        built = re.findall(
            r"(Math Kernel Library|MKL-DNN|BLAS_INFO|CUDNN_VERSION)(?: Version |=| v)([\w.]+)", torch.__config__.show()
        )
        libraries = [f"{name} {version}" for name, version in built]
        found["torch"] = ", ".join([torch.__version__, *libraries, torch.backends.cpu.get_cpu_capability()])
    return dict(sorted(found.items()))


@cache
def git_commit(folder: str) -> str | None:
    """Commit of the checkout in `folder`, with "-dirty" if it has changes; None outside git."""
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def provenance(recipe: Mapping[str, Any], inputs: Mapping[str, str], code: str, device: str, threads: int) -> dict[str, Any]:
    """What made an artefact.

    Args:
        recipe: the recipe's full description.
        inputs: checksums or revisions of what went in, by name.
        code: hash of the project code of this stage.
        device: "cpu" or "cuda: <name>".
        threads: CPU threads of the numerical libraries.
    """
    return {
        "recipe": dict(recipe),
        "inputs": dict(inputs),
        "code": code,
        "git_commit": git_commit(str(Path(__file__).parents[1])),
        "versions": library_versions(),
        "kernels": kernels(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "device": device,
        "threads": threads,
    }
