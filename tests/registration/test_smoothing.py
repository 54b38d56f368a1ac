"""Smoothing of a problem: SciPy's Gaussian, nothing from outside the mask, the fixed side as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter

from medmi.registration.problem import pose_problem
from tests.oracles.grids import SHAPES, oblique_grid


def image(d: int, seed: int) -> MetaTensor:
    generator = torch.Generator().manual_seed(seed)
    return MetaTensor(torch.rand(2, *SHAPES[d], generator=generator), affine=oblique_grid(SHAPES[d], seed).affine)


@pytest.mark.parametrize("d", [2, 3])
def test_the_moving_side_is_smoothed_as_scipy_does(d):
    problem = pose_problem(image(d, 0), image(d, 1))
    smooth = problem.smoothed(1.3)
    wanted = [gaussian_filter(c.double().numpy(), 1.3, mode="nearest", radius=4) for c in problem.moving.image]
    np.testing.assert_allclose(smooth.moving.image.numpy(), wanted, atol=1e-6)
    assert smooth.fixed is problem.fixed and smooth.moving.grid is problem.moving.grid
    assert problem.smoothed(0.0) is problem


def test_what_a_mask_leaves_out_is_not_mixed_in():
    moving = image(2, 1)
    inside = torch.zeros(1, *SHAPES[2])
    inside[0, 3:12, 5:17] = 1
    mask = MetaTensor(inside, affine=moving.affine)
    other = MetaTensor(torch.where(inside > 0, moving.as_tensor(), 1e4), affine=moving.affine)
    kept = inside[0] > 0
    sides = [pose_problem(image(2, 0), m, moving_mask=mask).smoothed(1.0).moving for m in (moving, other)]
    torch.testing.assert_close(sides[0].image[:, kept], sides[1].image[:, kept], atol=0, rtol=0)
    # Normalised convolution: a weighted mean, so within the range of what counts.
    seen = moving.as_tensor()[:, kept]
    assert float(sides[0].image[:, kept].min()) >= float(seen.min())
    assert float(sides[0].image[:, kept].max()) <= float(seen.max())
    assert bool(torch.isfinite(sides[0].image).all())
