"""Quantization on a GPU against the CPU's: codes, the kernel, column panels, pinned copies, precisions."""

import copy
from functools import partial

import pytest
import torch

from pmqbench.quantization import columns, gptq_kernel, moments
from pmqbench.quantization.base import QUANTIZERS
from pmqbench.quantization.calibrate import quantize_model
from pmqbench.quantization.columns import Steps
from pmqbench.quantization.grid import fit_grid
from pmqbench.quantization.problem import Expert
from pmqbench.quantization.streams import ahead

pytestmark = pytest.mark.gpu

# Share of a toy model's codes that may differ: float32 sums in another order move few weights over the middle between codes,
# and what comes behind such a weight moves with it. AWQ and mixed bits choose. Learned rounding follows signs of gradients, so
# that its codes say nothing; that its layers are as near to the experts' is tested of all.
TOLERANCE = dict.fromkeys(("rtn", "hqq"), 0.0005) | {"autoround": 1.0, "awq": 0.1, "mixed": 0.1}
OPTIONS = {"autoround": {"steps": 20}, "mixed": {"bits": 3, "probe_samples": 2}, "awq": {"search_samples": 4}}
METHODS = ("rtn", "hqq", "gptq", "epmq", "awq", "gptaq", "qep", "qronos", "mixed", "autoround")


def moved(experts, device):
    return {task: Expert(one.label, one.weights, lambda one=one: one.build().to(device)) for task, one in experts.items()}


def quantized(case, method, device):
    experts = moved(case.experts, device)
    model = copy.deepcopy(case.merged).to(device)
    base = next(iter(experts.values()))
    return quantize_model(model, method, case.calibration, experts, base=base)


def changed(one, other):
    """Share of the codes that differ."""
    differ = sum(int((one.codes[name].codes != other.codes[name].codes).sum()) for name in one.codes)
    return differ / sum(coded.codes.numel() for coded in one.codes.values())


def deviation(result):
    """How far the layers' outputs are from the experts', over layers and tasks."""
    parts = [part for record in result.records for part in (record["merging"] or {}).values()]
    return sum(part["final"] / part["scale"] for part in parts)


def test_every_method_is_here():
    assert set(METHODS) == set(QUANTIZERS.names())


@pytest.mark.parametrize("family", ["clip", "bert", "t5"])
@pytest.mark.parametrize("name", METHODS)
def test_codes_are_the_cpus(cases, family, name, device, record_property):
    method = QUANTIZERS.get(name)(**OPTIONS.get(name, {}))
    expected = quantized(cases[family], method, torch.device("cpu"))
    found, again = (quantized(cases[family], method, device) for _ in range(2))
    record_property("changed", changed(expected, found))
    assert changed(expected, found) <= TOLERANCE.get(name, 0.02)
    assert deviation(found) == pytest.approx(deviation(expected), rel=0.1)
    for layer, coded in found.codes.items():
        assert torch.equal(coded.weight(), found.tensors[f"{layer}.weight"]), layer
        assert torch.equal(coded.codes, again.codes[layer].codes), f"{layer}: two runs on one GPU"


@pytest.mark.parametrize(("group_size", "symmetric"), [(None, False), (64, True)])
def test_the_kernel_is_the_plain_loop(group_size, symmetric, device):
    generator = torch.Generator().manual_seed(0)
    work = torch.randn(256, 768, generator=generator)
    grid = fit_grid(work.T, 4, group_size, symmetric)
    upper = torch.linalg.qr(torch.randn(256, 256, generator=generator) + 12 * torch.eye(256)).R
    spread, groups = upper / upper.diagonal()[:, None], torch.arange(256) // (256 // grid.scale.shape[1])
    made = []
    for loop, place in ((columns.round_on_cpu, "cpu"), (gptq_kernel.round_columns, device)):
        steps = Steps.of(type(grid)(grid.bits, grid.scale.to(place), None if grid.zero is None else grid.zero.to(place)))
        rounded, errors = (torch.full_like(work, torch.nan, device=place) for _ in range(2))
        loop(work.clone().to(place), spread.to(place), steps, groups.to(place), rounded, errors)
        made.append((rounded.cpu(), errors.cpu()))
    same = made[0][0] == made[1][0]
    assert float(same.float().mean()) > 0.995
    assert float((made[0][1] - made[1][1]).abs()[same].max()) < 1e-3


@pytest.mark.parametrize("width", [300, 768, 3072])
def test_panels_are_the_whole_product(width, device):
    generator = torch.Generator().manual_seed(width)
    x, weights = torch.randn(4000, width, generator=generator), torch.rand(4000, generator=generator)
    expected = (x.double() * weights.double()[:, None]).T @ x.double()
    total = torch.zeros(width, width, device=device)
    moments._add_square(total, x.to(device), weights.to(device))
    moments._mirror(total)
    assert torch.equal(total, total.T)
    assert float((total.cpu() - expected).norm() / expected.norm()) < 1e-6


def test_experts_are_read_whole_beside_the_work(cases, device):
    case = cases["clip"]
    expert = next(iter(case.experts.values()))
    names = [name for name in expert.weights.names() if name.endswith("weight")] * 20
    like = {name: torch.empty(expert.weights.shape(name), device=device) for name in names}
    busy = torch.randn(2048, 2048, device=device)
    for name, tensor in zip(names, ahead(names, lambda name: expert.tensor(name, like[name])), strict=True):
        busy = busy @ busy / 50
        assert torch.equal(tensor.cpu(), expert.weights.tensor(name).float()), name


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 0.1), ("bfloat16", 0.3)])
@pytest.mark.parametrize("family", ["clip", "bert", "t5"])
def test_lower_precisions_are_near(cases, family, precision, tolerance, device):
    method = partial(QUANTIZERS.get("epmq"), target_inputs="expert")
    exact, fast = (quantized(cases[family], method(forward_precision=name), device) for name in ("float32", precision))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert changed(exact, fast) <= tolerance
    for one, other in zip(exact.records, fast.records, strict=True):
        assert other["objective"]["final"] == pytest.approx(one["objective"]["final"], rel=0.1), one["layer"]
