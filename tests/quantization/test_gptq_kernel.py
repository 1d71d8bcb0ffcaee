"""The GPU's column loop, run by Triton's interpreter on the CPU, against the plain loop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton comes with torch on Linux alone")

COMPARE = """
import sys, torch
from pmqbench.quantization.gptq_kernel import round_columns
from pmqbench.quantization.grid import fit_grid
from pmqbench.quantization.columns import Steps, round_on_cpu

size, outputs, group_size, symmetric = int(sys.argv[1]), 37, int(sys.argv[2]), sys.argv[3] == "True"
torch.manual_seed(0)
work = torch.randn(size, outputs)
grid = fit_grid(work.T, 4, group_size, symmetric)
upper = torch.linalg.qr(torch.randn(size, size) + 8 * torch.eye(size)).R
spread = torch.cat([upper / upper.diagonal()[:, None], torch.zeros(size, 5)], dim=1)[:, :size]  # rows are not contiguous
scales, groups = grid.scale.T.contiguous(), torch.arange(size) // group_size
zeros = 0 * scales if grid.zero is None else grid.zero.T.contiguous()
steps = Steps(scales, grid.low - zeros, grid.high - zeros)
made = []
for loop in (round_on_cpu, round_columns):
    codes, errors = torch.full_like(work, torch.nan), torch.full_like(work, torch.nan)
    loop(work.clone(), spread, steps, groups, codes, errors)
    made += [codes, errors]
same = (made[0] == made[2])
made = [part + zeros[groups] for part in (made[0],)] + made[1:]
print(float(same.float().mean()), float((made[1] - made[3]).abs()[same].max()), int(made[0].min()), int(made[0].max()))
"""


@pytest.mark.parametrize(("size", "group_size", "symmetric"), [(32, 8, False), (24, 24, True)])
def test_codes_and_errors_are_those_of_the_plain_loop(size, group_size, symmetric):
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", COMPARE, str(size), str(group_size), str(symmetric)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    same, error, low, high = map(float, done.stdout.split())
    assert same > 0.995
    assert error < 1e-4
    assert (low, high) == ((-8, 7) if symmetric else (0, 15))


WHOLE = """
import torch
from pmqbench.quantization import descent, gptq_kernel, solvers
from pmqbench.quantization.grid import LayerCodes, fit_grid
from pmqbench.quantization.metric import factorise

torch.manual_seed(0)
x = torch.randn(900, 300) @ torch.randn(300, 300)
weight, metric = torch.randn(20, 300), factorise(x.T @ x / 900, 0.01, where="layer", act_order=True)
grid = fit_grid(weight, 4, 50)
nearest = grid.encode(weight)

def codes():
    return solvers.gptq(weight, metric, grid), descent.descend(LayerCodes.of(grid, nearest), weight, metric, 1, False).codes

plain = codes()
solvers.round_columns = descent.round_columns = gptq_kernel.round_columns
for one, other in zip(codes(), plain):
    print(float((one == other).float().mean()), float((nearest == other).float().mean()))
"""


def test_whole_solvers_give_the_same_codes():
    """With the factor as `factorise` lays it out in memory, across two blocks of columns; not those of rounding to nearest."""
    environment, root = os.environ | {"TRITON_INTERPRET": "1"}, Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", WHOLE], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for line in done.stdout.splitlines():
        same, nearest = map(float, line.split())
        assert same > 0.99
        assert nearest < 0.9
    assert len(done.stdout.splitlines()) == 2
