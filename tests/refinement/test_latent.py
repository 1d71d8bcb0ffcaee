"""Straight-through rounding: a case worked by hand, and gradients against numpy in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from pmqbench.quantization.grid import LayerCodes, fit_grid
from pmqbench.refinement.latent import LatentLayer


def layer_of(weight, bits=2, group_size=None, symmetric=False, train_weight=True):
    grid = fit_grid(weight, bits, group_size, symmetric)
    coded = LayerCodes.of(grid, grid.encode(weight))
    module = nn.Linear(*weight.shape[::-1], bias=False)
    module.weight = nn.Parameter(coded.weight())
    return LatentLayer(module, coded, train_weight), coded


def test_a_case_worked_by_hand():
    """Scale 1, zero 1, codes 0..3: weights -1 0 1 2. Latents -1.4 and 2.3 lie outside the clamp: no gradient to them."""
    coded = LayerCodes(
        2, torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.uint8)
    )
    module = nn.Linear(4, 1, bias=False)
    module.weight = nn.Parameter(coded.weight())
    layer = LatentLayer(module, coded, train_weight=True)
    assert layer.weight().tolist() == [[-1.0, 0.0, 1.0, 2.0]]
    layer.latent.data = torch.tensor([[-1.4, 0.4, 0.6, 2.3]])
    layer.growth.data = torch.full((1, 1, 1), 2.0).log()
    weight = layer.weight()
    assert weight.tolist() == [[-2.0, 0.0, 2.0, 4.0]]
    (weight * torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
    assert layer.latent.grad.tolist() == [[0.0, 4.0, 6.0, 0.0]]  # dL/dW s / s_0 inside, s / s_0 = 2
    assert layer.growth.grad.flatten().tolist() == [2.0 * (-1 * 1 + 0 * 2 + 1 * 3 + 2 * 4)]  # s sum dL/dW (code - zero)
    assert layer.codes().codes.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("bits", "group_size", "symmetric"), [(4, None, False), (2, 4, False), (3, 8, True)])
def test_weight_and_gradients_against_float64(bits, group_size, symmetric):
    generator = torch.Generator().manual_seed(0)
    layer, coded = layer_of(torch.randn(6, 16, generator=generator), bits, group_size, symmetric)
    layer.latent.data += 0.2 * torch.randn(6, 16, generator=generator)
    layer.growth.data += 0.1 * torch.randn(layer.growth.shape, generator=generator)
    outer = torch.randn(6, 16, generator=generator)
    weight = layer.weight()
    (weight * outer).sum().backward()

    groups = coded.scale.shape[1]
    grouped = (6, groups, -1)
    latent, first, slope = (part.detach().double().numpy().reshape(grouped) for part in (layer.latent, coded.scale, outer))
    zero = np.zeros((*grouped[:2], 1)) if symmetric else coded.zero.double().numpy().reshape(grouped)
    low = -(2 ** (bits - 1)) if symmetric else 0
    scale = first * np.exp(layer.growth.detach().double().numpy())
    place = latent / first + zero
    steps = np.clip(np.rint(place), low, low + 2**bits - 1) - zero
    inside = (place >= low) & (place <= low + 2**bits - 1)
    assert 0 < inside.sum() < inside.size
    pairs = (
        (weight.detach(), scale * steps),
        (layer.latent.grad, slope * inside * scale / first),
        (layer.growth.grad, scale * (slope * steps).sum(-1, keepdims=True)),
    )
    largest = max(np.abs(found.double().numpy().reshape(wanted.shape) - wanted).max() for found, wanted in pairs)
    assert largest < 1e-5


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_weight_in_training_is_that_of_the_codes(symmetric):
    generator = torch.Generator().manual_seed(1)
    layer, _ = layer_of(torch.randn(8, 16, generator=generator), 3, 4, symmetric)
    layer.latent.data += 0.3 * torch.randn(8, 16, generator=generator)
    layer.growth.data += 0.1 * torch.randn(layer.growth.shape, generator=generator)
    assert torch.equal(layer.weight(), layer.codes().weight())
    coded = layer.close()
    assert torch.equal(layer.module.weight, coded.weight())


def test_codes_that_stay_need_no_latent_gradient():
    layer, _ = layer_of(torch.randn(4, 8, generator=torch.Generator().manual_seed(2)), train_weight=False)
    layer.weight().sum().backward()
    assert layer.latent.grad is None
    assert layer.growth.grad is not None
