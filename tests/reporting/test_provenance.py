"""What a record says of the libraries and the machine that made it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pmqbench
from pmqbench import provenance as module
from pmqbench.provenance import kernels, processor, provenance

ROOT = Path(pmqbench.__file__).parents[1]


def run(program, **environment):
    """What a fresh process prints, as JSON."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", f"import json, sys\n{program}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=variables).stdout)


def test_no_library_is_imported_to_be_recorded():
    program = "from pmqbench.provenance import *\nmade = provenance({}, {}, 'c', 'cpu', 1)\n"
    made, loaded = run(
        program + "print(json.dumps([made, [name for name in ('torch', 'numpy', 'scipy') if name in sys.modules]]))"
    )
    assert loaded == []
    assert "torch" not in made["kernels"]
    assert {"torch", "numpy", "scipy", "pillow"} <= made["versions"].keys()
    assert made["processor"]


def test_the_kernels_in_use_are_recorded():
    """Another instruction set than the processor's best, as on an older machine, shows."""
    program = "import torch, numpy\nfrom pmqbench.provenance import kernels\nprint(json.dumps(kernels()))"
    best, plain = run(program), run(program, ATEN_CPU_CAPABILITY="default", OPENBLAS_CORETYPE="Nehalem")
    assert best["torch"] != plain["torch"]
    assert plain["torch"].endswith(("DEFAULT", "NO AVX"))
    assert best.keys() == plain.keys()
    if blas := [name for name in best if name.startswith("openblas")]:
        assert all(plain[name].endswith("Nehalem") for name in blas)


def test_torch_build_is_recorded():
    import torch

    assert kernels()["torch"].startswith(f"{torch.__version__}, ")
    assert provenance({}, {}, "c", "cpu", 1)["kernels"] == kernels()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU\ncpu family\t: 6\nmodel\t\t: 143\nstepping\t: 8\n\nprocessor: 1\n",
            "Some CPU (6-143-8)",
        ),
        ("processor\t: 0\nBogoMIPS\t: 50.0\n", "aarch64"),
    ],
)
def test_processor(tmp_path, monkeypatch, lines, expected):
    (tmp_path / "cpuinfo").write_text(lines)
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    assert processor.__wrapped__() == expected
