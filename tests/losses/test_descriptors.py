"""Self-similarity descriptors against a loop over voxels, and what they are blind to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmi.losses import ModalityIndependentDescriptorLoss
from medmi.losses.descriptors import context_pairs, self_similarity_context, shifted


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("dims", "pairs"), [(1, 2), (2, 4), (3, 12)])
def test_pairs_of_the_context(dims, pairs):
    found = context_pairs(dims, 2)
    assert len(found) == len(set(found)) == pairs
    if dims > 1:
        assert {float(np.linalg.norm(np.subtract(a, b))) for a, b in found} == {2 * 2**0.5}


def test_shifted_reads_the_neighbour():
    x = image(1, 1, 4, 5)
    moved = shifted(x, (1, -2))
    assert torch.equal(moved[0, 0, :3, 2:], x[0, 0, 1:, :3])
    assert float(moved[0, 0, 3].sum()) == 0 == float(moved[0, 0, :, :2].sum())


@pytest.mark.parametrize("shape", [(15,), (7, 9), (5, 6, 7)])
def test_descriptors_equal_a_loop_over_voxels(shape):
    radius, dilation = 1, 2
    x = image(1, 1, *shape)
    values = x[0, 0].numpy()
    distances = []
    for pair in context_pairs(len(shape), dilation):
        total, count = np.zeros(shape), np.zeros(shape)
        for voxel in np.ndindex(shape):
            for step in np.ndindex((2 * radius + 1,) * len(shape)):
                centre = np.add(voxel, step) - radius
                one, two = centre + pair[0], centre + pair[1]
                if all((p >= 0).all() and (p < shape).all() for p in (one, two)):
                    total[voxel] += (values[tuple(one)] - values[tuple(two)]) ** 2
                    count[voxel] += 1
        distances.append(total / np.maximum(count, 0.5))
    distance = np.stack(distances)
    distance -= distance.min(0)
    spread = distance.mean(0)
    spread = np.clip(spread, spread.mean() / 1000, spread.mean() * 1000)
    found = self_similarity_context(x, torch.ones_like(x), radius, dilation)[:, 0, 0]
    np.testing.assert_allclose(found.numpy(), np.exp(-distance / spread), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(41,), (17, 19), (9, 10, 11)])
def test_blind_to_gain_offset_and_inversion(shape):
    x = image(1, 1, *shape)
    loss = ModalityIndependentDescriptorLoss()
    assert float(loss(x, x)) == 0
    assert float(loss(x, 1000 - 300 * x)) < 1e-20
    assert float(loss(x, image(1, 1, *shape, seed=1))) > 0.02


def test_lower_at_the_right_shift_across_contrasts():
    grid = torch.linspace(0, 9, 61, dtype=torch.float64)
    fixed = (grid.sin()[:, None] * (1.3 * grid).cos()).abs()[None, None]
    moving = torch.where(fixed > 0.4, 1 - fixed, 0.2 + fixed)
    loss = ModalityIndependentDescriptorLoss()
    scores = [float(loss(moving.roll(shift, -1)[..., 8:-8], fixed[..., 8:-8])) for shift in range(-4, 5)]
    assert int(np.argmin(scores)) == 4


@pytest.mark.parametrize("options", [{"radius": 0}, {"dilation": 0}, {"radius": 1.5}, {"reduction": "men"}])
def test_refuses_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ModalityIndependentDescriptorLoss(**options)
