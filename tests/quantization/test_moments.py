"""Moments of one task and their pool, against float64."""

from __future__ import annotations

import pytest
import torch

from pmqbench.errors import NumericalError
from pmqbench.quantization.moments import PANEL, SAMPLE_TOKENS, Pool, TaskMoments, Teacher

CPU = torch.device("cpu")


def tokens(n: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) + 0.5


def collect(x: torch.Tensor, chunks: int = 1, y: torch.Tensor | None = None, weights: torch.Tensor | None = None, share=1.0):
    moments = TaskMoments(x.shape[1], CPU, chunks, cross=y is not None, absolute=True)
    for rows in torch.arange(len(x)).chunk(chunks):
        moments.add(x[rows], None if weights is None else weights[rows], None if y is None else y[rows], share)
    return moments.finish("layer")


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b).norm() / b.norm())


@pytest.mark.parametrize("width", [7, PANEL + 3, 2 * PANEL + 90])
def test_moments_are_those_of_float64_and_symmetric(width):
    x, y = tokens(90, width), tokens(90, width, 1)
    moments = collect(x, 4, y, share=0.3)
    x, y = x.double(), y.double()
    shift = 0.3 * (y - x)
    assert relative(moments.second, x.T @ x / 90) < 1e-6
    assert torch.allclose(moments.second, moments.second.T, atol=1e-6)
    assert relative(moments.shift, shift.T @ x / 90) < 1e-6
    assert relative(moments.shift_second, shift.T @ shift / 90) < 1e-6
    assert relative(moments.mean, x.mean(0)) < 1e-6
    assert relative(moments.mean_shift, shift.mean(0)) < 1e-6
    assert relative(moments.absolute, x.abs().mean(0)) < 1e-6


def test_chunks_do_not_matter():
    x = tokens(1000, 50)
    whole, chunked = collect(x), collect(x, 13)
    assert float((whole.second - chunked.second).abs().max()) < 3e-6 * float(whole.second.abs().max())


def test_weights_weigh_and_padding_never_enters():
    x, weights = tokens(60, 9), torch.rand(60, generator=torch.Generator().manual_seed(3))
    weights[::4] = 0
    poisoned = x.clone()
    poisoned[::4] = torch.nan
    moments = collect(poisoned, 3, weights=weights)
    w = weights.double()
    assert relative(moments.second, (x.double() * w[:, None]).T @ x.double() / w.sum()) < 1e-6
    assert relative(moments.mean, w @ x.double() / w.sum()) < 1e-6
    assert moments.tokens == 45
    sample = moments.sample()
    assert bool(sample.x.isfinite().all())
    assert relative(sample.weights @ sample.x, moments.mean) < 1e-5


def test_sample_is_small_and_even_over_uneven_batches(monkeypatch):
    monkeypatch.setattr("pmqbench.quantization.moments.SAMPLE_TOKENS", SAMPLE_TOKENS)
    moments = TaskMoments(3, CPU, 2)
    moments.add(torch.zeros(3 * SAMPLE_TOKENS, 3))
    moments.add(torch.ones(SAMPLE_TOKENS, 3))
    sample = moments.finish("layer").sample()
    assert len(sample.x) == SAMPLE_TOKENS
    assert float(sample.weights @ sample.x[:, 0]) == pytest.approx(0.25)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30])
def test_nan_inf_and_overflow_are_errors_that_name_the_place(bad):
    x = tokens(10, 4)
    x[3, 2] = bad
    moments = TaskMoments(4, CPU, 1)
    moments.add(x)
    with pytest.raises(NumericalError, match=r"task digits, block\.fc1.*NaN or Inf"):
        moments.finish("task digits, block.fc1")


def test_no_token_is_an_error():
    moments = TaskMoments(4, CPU, 1)
    moments.add(tokens(5, 4), torch.zeros(5))
    with pytest.raises(NumericalError, match="no token"):
        moments.finish("layer")


@pytest.mark.parametrize("weight", ["tokens", "uniform", "frobenius"])
def test_pool_against_float64(weight):
    sizes = {"a": 40, "b": 90, "c": 15}
    x = {t: tokens(n, 6, n) * (1 + i) for i, (t, n) in enumerate(sizes.items())}
    y = {t: tokens(n, 6, n + 1) for t, n in sizes.items()}
    merged = tokens(5, 6, 100)
    teachers = {t: Teacher(tokens(5, 6, 200 + n), tokens(1, 5, 300 + n)[0]) for t, n in sizes.items()}
    pool = Pool(merged, weight)
    for task in sizes:
        pool.add(task, pool.share(collect(x[task], 2, y[task]), teachers[task], task))
    moments = pool.moments()

    x, y, merged = {t: v.double() for t, v in x.items()}, {t: v.double() for t, v in y.items()}, merged.double()
    second = {t: v.T @ v / len(v) for t, v in x.items()}
    raw = {"tokens": sizes, "uniform": dict.fromkeys(sizes, 1)}.get(weight) or {
        t: 1 / float(h.norm()) for t, h in second.items()
    }
    c = {t: raw[t] / sum(raw.values()) for t in sizes}
    w = {t: teacher.weight.double() for t, teacher in teachers.items()}
    assert moments.weights == pytest.approx(c, rel=1e-6)
    assert relative(moments.second, sum(c[t] * second[t] for t in sizes)) < 1e-6
    cross = sum(c[t] * (w[t] @ (y[t].T @ x[t] / sizes[t]) - merged @ second[t]) for t in sizes)
    assert relative(moments.cross, cross) < 2e-6
    residual = sum(c[t] * (y[t] @ w[t].T - x[t] @ merged.T).square().mean(0) for t in sizes)
    assert relative(moments.residual, residual) < 1e-5
    output = sum(c[t] * (w[t] @ y[t].mean(0) + teachers[t].bias) for t in sizes)
    assert relative(moments.mean_target, output) < 1e-6
    assert moments.tokens == 145


def test_a_task_with_more_tokens_weighs_no_more():
    """Invariant 5: per-token means."""
    x = {"small": tokens(20, 6, 1), "large": tokens(30, 6, 2)}

    def pooled(large: torch.Tensor, weight: str) -> torch.Tensor:
        pool = Pool(tokens(4, 6), weight)
        pool.add("small", pool.share(collect(x["small"]), None, ""))
        pool.add("large", pool.share(collect(large), None, ""))
        return pool.moments().second

    many = x["large"].repeat(50, 1)
    for weight in ("uniform", "frobenius"):
        assert torch.allclose(pooled(x["large"], weight), pooled(many, weight), rtol=1e-5)
    assert not torch.allclose(pooled(x["large"], "tokens"), pooled(many, "tokens"), rtol=1e-2)


def test_frobenius_weight_of_zero_inputs_is_an_error():
    with pytest.raises(NumericalError, match=r"block\.q.*all inputs are zero"):
        Pool(tokens(4, 6), "frobenius").share(collect(torch.zeros(5, 6)), None, "block.q")
