"""Resampling with the edge going on: against SciPy, gradients, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medmi.spatial.linear import about, linear_matrix
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, oblique_grid


def scene(spatial_dims: int, family: str = "affine"):
    """A grid, a source grid of another shape, a source and poses that reach outside."""
    generator = torch.Generator().manual_seed(0)
    grid, source_grid = oblique_grid(SHAPES[spatial_dims]), oblique_grid((9, 12, 17)[:spatial_dims], seed=1)
    count = {("affine", 2): 6, ("affine", 3): 12, ("homography", 2): 8}[family, spatial_dims]
    scale = torch.full((count,), 0.1, dtype=torch.float64)
    scale[:spatial_dims] = 2.0
    if family == "homography":
        scale[-2:] = 1e-4
    parameters = scale * torch.randn(2, count, generator=generator, dtype=torch.float64)
    source = torch.rand(2, 3, *source_grid.shape, generator=generator)
    meeting = about(source_grid.centre - grid.centre)
    return source, source_grid, meeting @ linear_matrix(parameters, family, spatial_dims, grid.centre), grid


@pytest.mark.parametrize(("spatial_dims", "family"), [(2, "affine"), (3, "affine"), (2, "homography")])
def test_equals_scipy_with_mode_nearest(spatial_dims, family):
    source, source_grid, poses, grid = scene(spatial_dims, family)
    points = grid.points().reshape(-1, spatial_dims).numpy()
    found = resample_replicated(source, source_grid, poses, grid)
    assert found.shape == (2, 3, *grid.shape) and found.dtype == torch.float32
    for image, pose, result in zip(source.numpy(), poses.numpy(), found.numpy()):
        ends = np.c_[points, np.ones(len(points))] @ pose.T
        world = np.c_[ends[:, :-1] / ends[:, -1:], np.ones(len(points))]
        index = (world @ np.linalg.inv(source_grid.affine.numpy()).T)[:, :-1]
        outside = ((index < 0) | (index > np.array(source_grid.shape) - 1)).any(1)
        assert 0.02 < outside.mean() < 0.98
        for channel, values in zip(image, result):
            expected = ndimage.map_coordinates(channel, index.T, order=1, mode="nearest")
            np.testing.assert_allclose(values.ravel(), expected, atol=2e-5)


def test_gradients_are_those_of_finite_differences():
    source, source_grid, poses, grid = scene(2)
    weights = torch.rand(2, 3, *grid.shape, generator=torch.Generator().manual_seed(1)).double()

    def total(matrices: torch.Tensor) -> float:
        return float((resample_replicated(source, source_grid, matrices, grid).double() * weights).sum())

    poses.requires_grad_()
    (resample_replicated(source, source_grid, poses, grid).double() * weights).sum().backward()
    step = torch.zeros_like(poses)
    step[1, 0, 2] = 0.02
    with torch.no_grad():
        slope = (total(poses + step) - total(poses - step)) / 0.04
    assert float(poses.grad[1, 0, 2]) == pytest.approx(slope, rel=0.05)


def test_bad_input_is_refused():
    source, source_grid, poses, grid = scene(2)
    with pytest.raises(InputError, match=r"source: shape \(2, 3, 19, 23\)"):
        resample_replicated(torch.zeros(2, 3, 19, 23), source_grid, poses, grid)
    with pytest.raises(InputError, match=r"poses: shape \(1, 3, 3\)"):
        resample_replicated(source, source_grid, poses[:1], grid)
