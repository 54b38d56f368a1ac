"""The price of strains: against SciPy's polar decomposition and logarithm, finite differences, and what noise makes of columns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.linalg import logm, polar

from medmi.registration.engine import solve
from medmi.registration.families import scaled_basis
from medmi.registration.levels import lift
from medmi.registration.motion import moved_along, tangent
from medmi.registration.objective import Scores
from medmi.registration.presets import PRESETS
from medmi.registration.problem import pose_problem
from medmi.registration.request import Request
from medmi.registration.stiffness import WIDTHS, Stiff, stiffened
from medmi.registration.terms import TERMS
from medmi.spatial import linear_matrix
from tests.contracts.transforms import parameters
from tests.oracles.smooth_pairs import smooth_problem

STIFFNESS = 16.0


class Flat:
    """An objective that all poses are the same to."""

    points = np.zeros((3, 5))

    def __call__(self, poses: np.ndarray, gradient: bool = True) -> Scores:
        row = np.full(len(poses), 0.25)
        return Scores(row, row, row, row, np.zeros((len(poses), 4, 4)))


def pose_of(family: str, d: int, size: float = 1.0) -> np.ndarray:
    return lift(linear_matrix(size * parameters(family, d), family, d))


def parts_of(pose: np.ndarray, d: int) -> list[float]:
    """Norms of the parts of the logarithm of the stretch: of size and of shape."""
    strain = logm(polar(pose[:d, :d])[1])
    size = np.trace(strain) / d * np.eye(d)
    return [float(np.linalg.norm(part)) for part in (size, strain - size)]


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("family", ["translation", "rigid"])
def test_shifts_and_turns_cost_nothing(family, d):
    scores = Stiff(Flat(), STIFFNESS, d)(pose_of(family, d)[None])
    np.testing.assert_allclose(scores.value, 0.25, atol=1e-15)
    np.testing.assert_allclose(scores.gradient, 0, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("family", ["similarity", "affine"])
def test_the_price_is_that_of_the_equation_and_of_the_inverse(family, d):
    pose = pose_of(family, d)
    both = Stiff(Flat(), STIFFNESS, d)(np.stack([pose, np.linalg.inv(pose)]), gradient=False)
    price = sum(STIFFNESS * w**2 * (np.sqrt(1 + part**2 / w**2) - 1) for part, w in zip(parts_of(pose, d), WIDTHS))
    assert price > 1e-3
    np.testing.assert_allclose(both.value, 0.25 - price, rtol=1e-12)
    assert both.merit.tolist() == both.similarity.tolist() == [0.25, 0.25]
    assert not both.gradient.any()


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("family", ["similarity", "affine"])
def test_the_gradient_is_that_of_central_differences(family, d):
    objective, poses = Stiff(Flat(), STIFFNESS, d), np.stack([pose_of("affine", d, size) for size in (0.05, 0.6)])
    basis = scaled_basis(family, smooth_problem(torch.eye(d + 1, dtype=torch.float64), shape=8))
    steps = 1e-5 * np.eye(len(basis))
    for pose, found in zip(poses, tangent(objective(poses).gradient, poses, basis)):
        around = np.tile(pose, (len(basis), 1, 1))
        ahead, behind = (objective(moved_along(around, s * steps, basis), gradient=False).value for s in (1, -1))
        expected = (ahead - behind) / 2e-5
        assert np.abs(expected).max() > 5e-4
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_a_pose_that_leads_nowhere_pays_nothing():
    poses = np.stack([pose_of("affine", 3)] * 2)
    poses[0, 1, 2] = np.nan
    scores = Stiff(Flat(), STIFFNESS, 3)(poses)
    assert scores.value[0] == 0.25 > scores.value[1] and not scores.gradient[0].any()


def test_only_what_is_stiff_is_wrapped():
    flat = Flat()
    stiff = stiffened(flat, STIFFNESS, 3)
    assert stiffened(flat, 0.0, 3) is flat
    assert isinstance(stiff, Stiff) and stiff.points is flat.points


def stretch_along_columns(stiffness: float, seed: int) -> float:
    """Norm of the strains in percent that an affine of noisy columns ends with, whose pattern is the same all along z."""
    rng = np.random.default_rng(seed)
    across = torch.nn.functional.avg_pool2d(torch.from_numpy(rng.normal(size=(1, 36, 36))), 5, 1, padding=2)
    columns = (across / across.std())[..., None].repeat(1, 1, 1, 36)
    noisy = [columns + 0.3 * torch.from_numpy(rng.normal(size=columns.shape)) for _ in range(2)]
    fixed, moving = (MetaTensor(image.float(), affine=torch.eye(4, dtype=torch.float64) * 2) for image in noisy)
    term = dataclasses.replace(TERMS["mi"], stiffness=stiffness)
    asked = Request("affine", term, "identity", PRESETS["fast"].plan, 0)
    matrix = solve(pose_problem(fixed, -moving), asked).transform.matrix.numpy()
    return 100 * float(np.linalg.norm(parts_of(matrix, 3)))


def test_what_noise_stretches_keeps_its_shape_at_a_price():
    free, priced = (
        np.median([stretch_along_columns(stiffness, seed) for seed in range(5)]) for stiffness in (0.0, STIFFNESS)
    )
    assert free > 10 and priced < 6, (free, priced)
