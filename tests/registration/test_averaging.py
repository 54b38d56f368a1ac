"""Refinement by averaged steps: on noisy quadratics whose summit and curvature are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from scipy.linalg import logm

from medmi.registration import averaging
from medmi.registration.ascent import Climbable
from medmi.registration.averaging import FEW, FINEST, MANY, POOL, Ends, Lengths, measured, refine, within
from medmi.registration.motion import moved_along
from medmi.registration.objective import Scores
from medmi.registration.response_surface import ROUNDS, PoolAt

MM = Lengths(radius=1.0, voxel=1.0)
# Translations: tangent coordinates are mm and compose by addition, so that a quadratic in them is exact.
BASIS = np.zeros((3, 4, 4))
BASIS[[0, 1, 2], [0, 1, 2], [3, 3, 3]] = 1
SUMMIT = np.array([1.0, -2.0, 0.5])
HESSIAN = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])


def hill(noise: float = 0.0, seed: int = 0) -> Callable[[], Climbable]:
    """Draws objectives ``-(x - s)' H (x - s) / 2`` whose summit is off by noise of their own."""
    rng = np.random.default_rng(seed)

    def draw() -> Climbable:
        summit = SUMMIT + noise * rng.standard_normal(3)

        def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
            away = poses[:, :3, 3] - summit
            slopes = np.zeros((len(poses), 4, 4))
            slopes[:, :3, 3] = -away @ HESSIAN
            value = -0.5 * np.einsum("bi,ij,bj->b", away, HESSIAN, away)
            return Scores(value, np.ones(len(poses)), value, value, slopes)

        return objective

    return draw


def summits_of(noise: float, seed: int = 0) -> np.ndarray:
    """Of the first ``POOL`` objectives that such a hill draws, ``(POOL, 3)``."""
    rng = np.random.default_rng(seed)
    return np.stack([SUMMIT + noise * rng.standard_normal(3) for _ in range(POOL)])


def always(pool: list[Climbable]) -> PoolAt:
    """The same objectives around every pose."""
    return lambda pose: pool


def refined(noise: float, steps: int = 64, seed: int = 0, radius: float = 1.0):
    draw = hill(noise, seed)
    pool, lengths = always([draw() for _ in range(POOL)]), Lengths(radius, 1.0)
    return refine(pool, np.eye(4), BASIS, steps, lengths, np.random.default_rng(seed))


def test_a_quadratic_gives_its_gradient_and_inverse_hessian():
    offsets = within(9, 3, 0.7, np.random.default_rng(1))
    slope, curvature = measured(hill()(), np.eye(4), BASIS, offsets)
    np.testing.assert_allclose(slope, HESSIAN @ SUMMIT, atol=1e-10)
    np.testing.assert_allclose(curvature.inverse, np.linalg.inv(HESSIAN), atol=1e-10)


def test_rotations_have_the_curvature_of_finite_differences():
    turns = np.zeros((3, 4, 4))
    for k, (i, j) in enumerate([(1, 2), (2, 0), (0, 1)]):
        turns[k, i, j], turns[k, j, i] = -1, 1
    weights = np.array([3.0, 2.0, 1.0])

    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        slopes = np.zeros((len(poses), 4, 4))
        slopes[:, range(3), range(3)] = weights
        value = np.einsum("i,bii->b", weights, poses[:, :3, :3])
        return Scores(value, np.ones(len(poses)), value, value, slopes)

    _, curvature = measured(objective, np.eye(4), turns, within(60, 3, 1e-3, np.random.default_rng(0)))
    # tr(W exp(t K)) = tr(W) - t^2 (sum of the two weights across the axis) / 2 + O(t^4).
    np.testing.assert_allclose(np.linalg.inv(curvature.inverse), np.diag([3.0, 4.0, 5.0]), rtol=1e-5, atol=1e-5)


def test_a_smooth_hill_is_climbed_to_its_summit_and_rests():
    end = refined(0.0)
    np.testing.assert_allclose(end.pose[:3, 3], SUMMIT, atol=1e-3)
    assert end.rested
    np.testing.assert_allclose(end.inverse_hessian, np.linalg.inv(HESSIAN), atol=1e-8)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("voxel", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.09, 0.12])
def test_steps_end_when_chance_moves_the_mean_by_little(noise, voxel, many, monkeypatch):
    """The tops of quadratics are their summits; the mean of n that spread by s is off by ``s / sqrt(n)``."""
    monkeypatch.setattr(averaging, "FEW", Ends(0.04, 1.0, 3 * POOL))
    monkeypatch.setattr(averaging, "MANY", Ends(0.03, 1.0, 3 * POOL))
    monkeypatch.setattr(averaging, "FEW_PARAMETERS", 2 if many else 3)
    draw, taken = hill(noise), []
    pool = [draw() for _ in range(POOL)]
    end = refine(always(pool), np.eye(4), BASIS, 400, Lengths(0.9, voxel), np.random.default_rng(0), taken.append)

    def error(rounds: int) -> float:
        tops = np.tile(summits_of(noise), (rounds, 1))
        return float(np.sqrt(tops.var(0, ddof=1).sum() / len(tops))) / max(voxel, FINEST * 0.9)

    enough = next(rounds for rounds in itertools.count(1) if error(rounds) < (0.03 if many else 0.04))
    assert len(taken) == (1 + enough) * POOL and end.rested


def test_where_they_are_never_enough_all_are_taken(monkeypatch):
    monkeypatch.setattr(averaging, "FEW", Ends(0.0, np.inf, 3 * POOL))
    taken, draw = [], hill(0.3)
    pool = always([draw() for _ in range(POOL)])
    end = refine(pool, np.eye(4), BASIS, 45, MM, np.random.default_rng(0), taken.append)
    assert len(taken) == 45 and not end.rested


@pytest.mark.parametrize("seed", range(5))
def test_the_end_is_the_mean_of_the_tops(seed, monkeypatch):
    monkeypatch.setattr(averaging, "FEW", Ends(0.055, np.inf, 3 * POOL))
    end = refined(0.2, 5 * POOL, seed, 2.0).pose[:3, 3]
    np.testing.assert_allclose(end, summits_of(0.2, seed).mean(0), atol=1e-8)


def test_the_start_is_forgotten():
    """The same draws from two starts end together."""
    draw, ends = hill(0.1), []
    pool = [draw() for _ in range(POOL)]
    for start in ([0.0, 0.0, 0.0], [0.6, -0.7, 0.4]):
        pose = np.eye(4)
        pose[:3, 3] = start
        ends.append(refine(always(pool), pose, BASIS, 64, MM, np.random.default_rng(5)).pose[:3, 3])
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-8)


def restless(parameters: int) -> tuple[list[np.ndarray], int]:
    """Where two starts end on ripples that keep single gradients from telling the top, and the evaluations of one."""
    basis = np.concatenate([BASIS, np.zeros((parameters - 3, 4, 4))])
    draw, ends, told = hill(), [], []
    smooth = draw()

    def rough(phase: float) -> Climbable:
        def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
            scores, turn = smooth(poses), 10 * np.pi * poses[:, :3, 3] + phase
            slopes = scores.gradient.copy()
            slopes[:, :3, 3] -= 10 * np.pi * np.sin(turn)
            value = scores.value + np.cos(turn).sum(1)
            return Scores(value, scores.overlap, value, value, slopes)

        return objective

    pool = [rough(k) for k in range(POOL)]
    for start in ([0.5, -1.5, 0.2], [1.6, -2.4, 0.9]):
        pose, told = np.eye(4), []
        pose[:3, 3] = start
        end = refine(always(pool), pose, basis, 64, Lengths(0.8, 1.0), np.random.default_rng(5), told.append)
        ends.append(end.pose[:3, 3])
    return ends, len(told)


def test_where_tops_are_far_apart_a_response_surface_brings_starts_together(monkeypatch):
    ends, calls = restless(3)
    assert 2 * POOL < calls <= 2 * POOL + ROUNDS
    monkeypatch.setattr(averaging, "FEW", Ends(FEW.error, np.inf, FEW.trial))
    by_steps, steps = restless(3)
    assert steps == 64
    assert np.linalg.norm(ends[0] - ends[1]) < 0.5 * np.linalg.norm(by_steps[0] - by_steps[1])


def test_where_a_surface_finds_no_top_the_steps_go_on(monkeypatch):
    monkeypatch.setattr(averaging, "climb_surface", lambda *_: (None, False))
    after, calls = restless(3)
    monkeypatch.setattr(averaging, "FEW", Ends(FEW.error, np.inf, FEW.trial))
    by_steps, steps = restless(3)
    assert calls == steps == 64 and np.array_equal(after, by_steps)


LESS, MORE, TWICE = 0.99, 1.01, 2.01


@pytest.mark.parametrize("ends", [FEW, MANY])
@pytest.mark.parametrize(
    ("spreads_of", "by_a_surface"),
    [
        (lambda before: [TWICE], True),
        (lambda before: [*before, MORE], True),
        (lambda before: [*before, LESS, TWICE, 0.0], False),
        (lambda before: [MORE, 0.0], False),
    ],
)
def test_a_surface_follows_by_the_spread_until_the_trial_is_over(ends, spreads_of, by_a_surface, monkeypatch):
    """Round by round; before the trial's end only twice the spread tells, after it none."""
    spreads = spreads_of([MORE] * (ends.trial // POOL - 2))
    seen = (ends.rough * share for share in spreads)
    monkeypatch.setattr(averaging._Walk, "spread", lambda walk: next(seen))
    monkeypatch.setattr(averaging, "FEW_PARAMETERS", 3 if ends is FEW else 2)
    surface = mock.Mock(return_value=(np.eye(4), True))
    monkeypatch.setattr(averaging, "climb_surface", surface)
    without_error = Ends(1e-3, ends.rough, ends.trial)  # under which no spread but 0 is
    monkeypatch.setattr(averaging, "FEW" if ends is FEW else "MANY", without_error)
    taken: list[Scores] = []
    refine(always([hill()() for _ in range(POOL)]), np.eye(4), BASIS, 96, MM, np.random.default_rng(0), taken.append)
    assert len(taken) == (1 + len(spreads)) * POOL and surface.called == by_a_surface


def test_too_few_steps_for_a_spread_are_no_reason_for_a_surface():
    taken: list[Scores] = []
    draw = hill(3.0)
    pool = always([draw() for _ in range(POOL)])
    end = refine(pool, np.eye(4), BASIS, 2 * POOL - 1, MM, np.random.default_rng(0), taken.append)
    assert len(taken) == 2 * POOL - 1 and not end.rested


@pytest.mark.parametrize("rough", [-1.0, np.inf])
def test_the_scores_are_those_of_the_end_by_points_around_it(rough, monkeypatch):
    """Points drawn around x see the value at y as ``y - x``; so 0 at the end itself, whether steps or a surface led there."""
    monkeypatch.setattr(averaging, "FEW", Ends(FEW.error, rough, FEW.trial))

    def pool_at(pose: np.ndarray) -> list[Climbable]:
        def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
            value = poses[:, 0, 3] - pose[0, 3] - 0.5 * np.square(poses[:, 0, 3] - 1)
            slopes = np.zeros((len(poses), 4, 4))
            slopes[:, 0, 3] = 2 - poses[:, 0, 3]
            return Scores(value, np.ones(len(poses)), value, value, slopes)

        return [objective] * POOL

    end = refine(pool_at, np.eye(4), BASIS, 64, Lengths(0.1, 1.0), np.random.default_rng(0))
    expected = pool_at(end.pose if rough < 0 else np.eye(4))[0](end.pose[None])
    np.testing.assert_allclose(end.scores.value, expected.value, atol=1e-12)


def test_the_same_generator_gives_the_same_bits():
    assert np.array_equal(refined(0.3, seed=4).pose, refined(0.3, seed=4).pose)


def test_no_step_is_longer_than_the_radius():
    end = refined(0.0, steps=1, radius=0.2)
    assert 0.2 < np.linalg.norm(end.pose[:3, 3]) <= 0.4 + 1e-12
    assert not end.rested


def test_poses_stay_in_their_group():
    turns = np.zeros((1, 4, 4))
    turns[0, 0, 1], turns[0, 1, 0] = -1, 1

    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        slopes = np.zeros((len(poses), 4, 4))
        slopes[:, 0, 1] = -1.0
        slopes[:, 1, 0] = 1.0
        value = poses[:, 1, 0] - poses[:, 0, 1]
        return Scores(value, np.ones(len(poses)), value, value, slopes)

    start = moved_along(np.eye(4)[None], np.array([[1.2]]), turns)[0]
    pose = refine(always([objective]), start, turns, 40, Lengths(0.5, 1.0), np.random.default_rng(0)).pose
    angle = np.real(logm(pose[:3, :3]))[1, 0]
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    assert angle == pytest.approx(np.pi / 2, abs=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_slopes_that_are_not_finite_leave_the_pose_where_it_is(bad):
    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        return Scores(*[np.full(len(poses), bad)] * 4, np.full((len(poses), 4, 4), bad))

    end = refine(always([objective]), np.eye(4), BASIS, 4, MM, np.random.default_rng(0))
    assert np.array_equal(end.pose, np.eye(4))


def test_each_pair_is_told_and_lies_around_the_pose():
    told: list[Scores] = []
    refine(always([hill()()]), np.eye(4), BASIS, 5, MM, np.random.default_rng(0), told.append)
    assert [len(scores.similarity) for scores in told] == [2] * 5


@pytest.mark.parametrize("size", [1, 3, 12])
def test_offsets_take_all_directions_alike_and_a_length_from_each_share_of_the_ball(size):
    offsets = within(5 * size, size, 2.0, np.random.default_rng(1))
    lengths = np.linalg.norm(offsets, axis=1)
    for block in (offsets / lengths[:, None]).reshape(5, size, size):
        np.testing.assert_allclose(block @ block.T, np.eye(size), atol=1e-12)
    shares = (lengths / 2.0) ** size * 5 * size
    np.testing.assert_allclose(np.sort(shares), np.arange(5 * size) + 0.5, rtol=1e-9)
