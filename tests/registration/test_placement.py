"""Places of voxels and what derivatives by them say about a pose, against matrices times every index and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from medmi.registration.placement import Placement

SHAPES = {"2d": ((7, 5), (6, 9)), "3d": ((5, 6, 4), (8, 3, 7)), "one voxel thick": ((4, 3, 1), (5, 1, 6))}


def oblique(seed: int, spacing: tuple[float, float, float]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=seed).as_matrix() * spacing
    matrix[:3, 3] = rng.normal(size=3)
    return matrix


def homography() -> np.ndarray:
    pose = np.eye(4) + 0.2 * np.random.default_rng(5).normal(size=(4, 4))
    pose[3] = 0.01, -0.02, 0.015, 0.9
    return pose


POSES = {"identity": np.eye(4), "rigid": oblique(3, (1, 1, 1)), "homography": homography()}


def of(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> Placement:
    to_index = np.linalg.inv(oblique(2, (1.0, 2.0, 1.5)))
    return Placement(oblique(1, (1.5, 1.0, 0.7)), to_index, *shapes, torch.device("cpu"))


def every_index(placement: Placement, pose: torch.Tensor) -> torch.Tensor:
    """The same coordinates, float64, by the product of one matrix and every index."""
    shape, dims = placement.shape, len(placement.shape)
    index = torch.ones(*shape, 4, dtype=torch.float64)
    index[..., :3] = 0
    index[..., :dims] = torch.from_numpy(np.moveaxis(np.indices(shape), 0, -1).astype(float))
    to_index, to_world = (torch.from_numpy(m) for m in (placement.to_index, placement.to_world))
    placed = index @ (to_index @ pose @ to_world).T
    at = placed[..., :dims] / placed[..., 3:]
    size = torch.tensor(placement.moving_shape, dtype=torch.float64)
    return (2 * at / (size - 1).clamp_min(1) - 1).flip(-1).unsqueeze(0)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("shapes", SHAPES)
def test_places_are_those_of_every_index(shapes, pose):
    placement = of(SHAPES[shapes])
    found, expected = placement.unit(POSES[pose]), every_index(placement, torch.from_numpy(POSES[pose]))
    assert found.dtype == torch.float32 and found.shape == (1, *placement.shape, len(placement.shape))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("shapes", SHAPES)
def test_a_derivative_by_the_places_becomes_that_by_the_pose(shapes, pose):
    placement, matrix = of(SHAPES[shapes]), torch.from_numpy(POSES[pose]).requires_grad_()
    places = every_index(placement, matrix)
    by_unit = torch.randn(places.shape, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad(places, matrix, by_unit.double())
    found = placement.pulled_back(POSES[pose], placement.unit(POSES[pose]), by_unit)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
