"""AutoRound's rounding: its start, its gradient and its steps, against float64 written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmqbench.quantization.grid import LayerCodes, fit_grid
from pmqbench.quantization.learned_rounding import LearnedRounding, before_rounding, latent_codes
from pmqbench.quantization.methods.gptq import Gptq
from pmqbench.quantization.metric import factorise
from pmqbench.quantization.solvers import round_target

GRIDS = [(bits, group, symmetric) for bits in (2, 3, 4, 8) for group in (None, 4) for symmetric in (True, False)]


def solved(bits, group=None, symmetric=False, act_order=False, damping=0.01):
    """GPTQ's solution of a random layer (5, 12) with correlated inputs, and its second moment."""
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(5, 12, generator=generator)
    x = torch.randn(60, 12, generator=generator) @ torch.randn(12, 12, generator=generator)
    second = x.T @ x / len(x)
    metric = factorise(second, damping, where="test", act_order=act_order)
    method = Gptq(bits=bits, group_size=group, symmetric=symmetric)
    return round_target(method, weight, metric, "gptq"), second


@pytest.mark.parametrize(("bits", "group", "symmetric"), GRIDS)
def test_the_start_is_the_codes_it_was_given(bits, group, symmetric):
    solution, _ = solved(bits, group, symmetric)
    rounding = LearnedRounding(solution.codes, latent_codes(solution))
    assert torch.equal(rounding(solution.weight), solution.weight)
    coded = rounding.coded()
    assert torch.equal(coded.codes, solution.codes.codes)
    assert torch.equal(coded.scale, solution.codes.scale)
    assert coded.codes.dtype == solution.codes.codes.dtype
    assert (coded.zero is None) == symmetric
    assert symmetric or torch.equal(coded.zero, solution.codes.zero)


@pytest.mark.parametrize("act_order", [False, True])
def test_columns_before_rounding_against_gptq_written_out(act_order):
    solution, second = solved(3, act_order=act_order)
    h = second.double().numpy()
    h = h + 0.01 * np.diag(h).mean() * np.eye(len(h))
    order = np.argsort(-np.diag(second.numpy()), kind="stable") if act_order else np.arange(len(h))
    upper = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T
    work, quantized = solution.target.double().numpy()[:, order], solution.weight.double().numpy()[:, order]
    before = work.copy()
    for j in range(len(h)):
        before[:, j] = work[:, j]
        error = (work[:, j] - quantized[:, j]) / upper[j, j]
        work[:, j:] -= np.outer(error, upper[j, j:])
    got = before_rounding(solution.target, solution.weight, solution.metric).double().numpy()[:, order]
    assert np.abs(got - before).max() < 1e-5  # of weights of size 1: columns are float32 where they are kept


def test_columns_before_rounding_by_hand():
    """H = [[2, 1], [1, 2]], undamped: the second column moves by half the first one's error."""
    metric = factorise(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), 0.0, where="test")
    target, weight = torch.tensor([[0.4, 0.2]]), torch.tensor([[0.0, 0.0]])
    assert torch.allclose(before_rounding(target, weight, metric), torch.tensor([[0.4, 0.4]]))
    assert torch.equal(before_rounding(target, weight, None), target)


def test_without_a_metric_the_latent_codes_are_the_target():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    grid = fit_grid(weight, 4, shrinks=(1.0,))
    solution = round_target(Gptq(bits=4), weight, None, "nearest")
    expected = weight / grid.scale + grid.zero
    got, nearest = latent_codes(solution), torch.round(expected)
    far = (expected - nearest).abs() < 0.499
    assert torch.allclose(got[far], expected[far], atol=1e-5)
    assert torch.equal(torch.round(got), nearest)


def soft(values, layer, start):
    """The weight in float64 at `values` (V, a, b), with what rounding adds and which codes clip as they are at `start`."""
    scale, zero, steps, low, high = layer

    def parts(offset, below, above):
        below = below * (zero - low)
        ratio = (above * (high - zero) + below) / (high - low)
        return ratio, below / ratio, steps / ratio + offset

    ratio, first, second = parts(*values)
    _, first_then, second_then = parts(*start)
    moved = first + np.round(first_then) - first_then
    codes = second + np.round(second_then) - second_then + moved
    then = np.round(second_then) + np.round(first_then)
    return scale * ratio * (np.where(then < low, low, np.where(then > high, high, codes)) - moved)


@pytest.mark.parametrize("group", [None, 4])
def test_gradient_against_differences(group):
    """Of sum (G W)^2 with a fixed G, at a point away from the start where some codes clip."""
    solution, _ = solved(3, group)
    rounding = LearnedRounding(solution.codes, latent_codes(solution)).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        rounding.offset.add_(0.4 * (torch.rand(rounding.offset.shape, generator=generator) - 0.5))
        rounding.factors.sub_(0.4 * torch.rand(rounding.factors.shape, generator=generator))
    mixing = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    (mixing @ rounding(solution.weight)).square().sum().backward()
    layer = [part.numpy() for part in (rounding.scale, rounding.zero, rounding.steps)] + [0, 7]
    start = [rounding.offset.detach().numpy(), *(rounding.factors.detach()[..., k : k + 1].numpy() for k in (0, 1))]

    def loss(values):
        return np.square(mixing.numpy() @ soft(values, layer, start).reshape(5, 12)).sum()

    gradients = [rounding.offset.grad.numpy(), *(rounding.factors.grad[..., k : k + 1].numpy() for k in (0, 1))]
    codes, _, _ = rounding._rounded()
    assert 0 < int((codes == 7).sum() + (codes == 0).sum()) < codes.numel()
    worst = 0.0
    for which, gradient in enumerate(gradients):
        for place in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                values = [part.copy() for part in start]
                values[which][place] += sign * 1e-6
                ends.append(loss(values))
            worst = max(worst, abs((ends[0] - ends[1]) / 2e-6 - gradient[place]) / (1 + abs(gradient[place])))
    print(f"largest relative difference {worst:.1e}")
    assert worst < 1e-6


def test_two_steps_by_hand():
    """Rates 1/2 and 1/4: offsets move against the gradient's sign and stop at 1/2, factors stay in [1/2, 1]."""
    codes = LayerCodes(
        2, torch.tensor([[1, 3]], dtype=torch.uint8), torch.tensor([[1.0]]), torch.tensor([[1]], dtype=torch.uint8)
    )
    rounding = LearnedRounding(codes, torch.tensor([[1.2, 3.0]]))
    for rate, gradient in ((0.5, [3.0, -0.1]), (0.25, [-1.0, -2.0])):
        rounding.offset.grad = torch.tensor([[gradient]])
        rounding.factors.grad = torch.tensor([[[1.0, -1.0]]])
        rounding.descend(rate)
    assert rounding.offset.tolist() == [[[-0.25, 0.5]]]
    assert rounding.factors.tolist() == [[[0.5, 1.0]]]
    # r = (1 * 2 + 0.5 * 1) / 3 = 5/6; z = round(0.5 / r) = 1; q = round(0.2 / r - 0.25) + 1 = 1 and round(2 / r + 0.5) + 1 = 4,
    # which clips to 3.
    assert torch.allclose(rounding(torch.zeros(1, 2)), torch.tensor([[0.0, 5 / 3]]))
    assert rounding.coded().codes.tolist() == [[1, 3]]
