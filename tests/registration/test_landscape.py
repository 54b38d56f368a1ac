"""Information by point and region: sums against the objective's merit, significance against SciPy, covariance in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from medmi.registration.evidence import Evidence
from medmi.registration.families import scaled_basis
from medmi.registration.landscape import (
    ACROSS,
    LEAST_CURVATURE,
    Surroundings,
    held_share,
    point_information,
    regional_information,
    regions_of,
    significance,
    surroundings,
)
from medmi.registration.levels import pyramid
from medmi.registration.motion import moved_along
from medmi.registration.probes import information
from medmi.registration.terms import TERMS
from tests.oracles.smooth_pairs import smooth_problem


def evidence_of(d: int, channels: int = 1) -> Evidence:
    """A smooth pair of two contrasts, judged at its true pose, the identity."""
    problem = smooth_problem(torch.eye(d + 1, dtype=torch.float64), channels, other_modality=True, shape=8)
    levels = list(zip(pyramid(problem.fixed, [0.1]), pyramid(problem.moving, [0.1])))
    centre = np.append(problem.fixed.grid.centre.numpy(), [0.0] * (3 - d))
    pose = np.eye(4)
    pose[:3, 3] = centre
    return Evidence(levels, centre, pose, scaled_basis("rigid", problem), TERMS["mi"], (1.0,), d, 1.0, 0)


def poses_around(evidence: Evidence, count: int = 3) -> np.ndarray:
    steps = np.random.default_rng(0).uniform(-2, 2, (count, len(evidence.basis)))
    return moved_along(np.tile(evidence.pose, (count, 1, 1)), steps, evidence.basis)


@pytest.mark.parametrize(("d", "channels"), [(3, 1), (2, 1), (2, 3)])
def test_information_of_points_and_regions_adds_up_to_the_merit(d, channels):
    evidence = evidence_of(d, channels)
    objective = information(evidence, 1.0, 3000, 24, np.random.default_rng(0))
    sizes = np.stack([np.diag([k] * d + [1.0] * (4 - d)) for k in (0.8, 1.2)])
    poses = np.concatenate([poses_around(evidence), evidence.pose @ sizes])
    merits = objective(poses, gradient=False).merit
    np.testing.assert_allclose(point_information(objective, poses).mean(1), merits, rtol=1e-4)
    np.testing.assert_allclose(regional_information(objective, poses, d).sum(1), merits, rtol=1e-4)


def test_regions_hold_equally_many_points():
    points = np.random.default_rng(0).normal(size=(2700, 3))
    counts = np.bincount(regions_of(points, 3))
    assert len(counts) == 27 and counts.min() > 60
    points[:, 2] = 0
    flat = np.bincount(regions_of(points, 3))
    assert len(flat) == 9 and flat.min() > 250


@pytest.mark.parametrize("d", [2, 3])
def test_information_of_the_true_pose_holds_elsewhere_and_that_of_chance_does_not(d):
    evidence = evidence_of(d)
    objective = information(evidence, 1.0, 4000, 16, np.random.default_rng(0))
    assert 0.8 < held_share(objective, evidence.pose, d) <= 1
    shuffled = np.random.default_rng(1).permutation(objective.samples.positions, axis=1)
    chance = replace(objective, samples=replace(objective.samples, positions=shuffled))
    assert held_share(chance, evidence.pose, d) < 0.1


def test_a_relation_that_differs_between_the_colours_of_the_board_does_not_hold():
    evidence = evidence_of(2)
    objective = information(evidence, 1.0, 4000, 16, np.random.default_rng(0))
    cells = regions_of(objective.points.T, ACROSS[2])
    black = (cells // ACROSS[2] + cells % ACROSS[2]) % 2 == 1
    positions = objective.samples.positions.copy()
    positions[:, black] = np.random.default_rng(1).permutation(positions[:, black], axis=1)
    broken = replace(objective, samples=replace(objective.samples, positions=positions))
    assert held_share(broken, evidence.pose, 2) < 0.6 * held_share(objective, evidence.pose, 2)


def test_significance_is_students_t():
    rows = np.random.default_rng(0).normal(0.4, 1.0, (5, 27))
    np.testing.assert_allclose(significance(rows), ttest_1samp(rows, 0, axis=1).statistic)
    assert significance(np.zeros((2, 27))).tolist() == [0, 0]


def test_covariance_of_a_parabola_is_the_clustered_sandwich():
    rng = np.random.default_rng(0)
    bend, slopes, reach = np.array([4.0, 9.0, 2.0]), rng.normal(size=(40, 3)), np.array([0.5, 0.3, 1.0])
    # Region r adds slopes_r . s - bend . s^2 / 80, so that the sum bends by ``bend``.
    ahead, behind = ((sign * slopes * reach - bend * reach**2 / 80).T for sign in (1, -1))
    around = Surroundings(np.zeros(40), ahead, behind, reach)
    np.testing.assert_allclose(around.bend, bend)
    scatter = 40 * np.cov(slopes.T)
    np.testing.assert_allclose(around.covariance, scatter / np.outer(bend, bend))


def test_a_flat_direction_is_uncertain_but_finite():
    ahead = np.array([[-1.0, -1.0], [0.5, -0.2]])
    around = Surroundings(np.zeros(2), ahead, ahead, np.ones(2))
    assert around.bend[1] == pytest.approx(LEAST_CURVATURE * around.bend[0])
    assert np.isfinite(around.covariance).all()


@pytest.mark.parametrize("d", [2, 3])
def test_surroundings_lie_one_limit_away(d):
    evidence = evidence_of(d)
    around = surroundings(evidence, information(evidence, 1.0, 4000, 24, np.random.default_rng(0)))
    speeds = []
    for k, reach in enumerate(around.reach):
        step = np.zeros((1, len(evidence.basis)))
        step[0, k] = 1e-3 * reach
        pose = moved_along(evidence.pose[None], step, evidence.basis)[0]
        away = (pose - evidence.pose)[:3] @ np.append(evidence.foreground, np.ones((len(evidence.foreground), 1)), 1).T
        speeds.append(np.linalg.norm(away, axis=0).mean() / 1e-3)
    np.testing.assert_allclose(speeds, evidence.limit_mm, rtol=1e-3)
    assert (around.falls.sum(-1) > 0).all()  # at the true pose every way leads down
