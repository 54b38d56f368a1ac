"""Refinement by a response surface: on quadratics in closed form, smooth and under ripples that hide their top from gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medmi.registration import response_surface
from medmi.registration.averaging import within
from medmi.registration.objective import Scores
from medmi.registration.response_surface import ROUNDS, SETS, WIDEST, Ellipsoid, climb_surface, pairs_for

# Translations: tangent coordinates are mm and compose by addition, so that a quadratic in them is exact.
BASIS = np.zeros((3, 4, 4))
BASIS[[0, 1, 2], [0, 1, 2], [3, 3, 3]] = 1
SUMMIT = np.array([0.7, -0.4, 0.5])
HESSIAN = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 0.3]])
OFFSETS = within(pairs_for(3), 3, 1.0, np.random.default_rng(0))


def ball(radius: float) -> Ellipsoid:
    return Ellipsoid.of(np.eye(3), radius)


def scored(value: np.ndarray) -> Scores:
    return Scores(value, np.ones(len(value)), value, value, np.zeros((len(value), 4, 4)))


def hill(ripple: float = 0.0, level: float = 0.0, phase: float = 0.0):
    """``-(x - s)' H (x - s) / 2`` with ripples a fifth of a mm long."""

    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        away = poses[:, :3, 3] - SUMMIT
        rough = ripple * np.cos(2 * np.pi * 5 * poses[:, :3, 3] + phase).sum(1)
        return scored(level + rough - 0.5 * np.einsum("bi,ij,bj->b", away, HESSIAN, away))

    return objective


def always(*pool):
    """The same objectives around every pose, in turn."""
    return lambda pose: [pool[k % len(pool)] for k in range(SETS)]


def at(place) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = place
    return pose


def test_the_top_of_a_quadratic_is_found_in_one_round_and_rests_in_the_next():
    told: list[Scores] = []
    pose, rested = climb_surface(always(hill()), at([0, 0, 0]), BASIS, OFFSETS, ball(1.5), told.append)
    np.testing.assert_allclose(pose[:3, 3], SUMMIT, atol=1e-9)
    assert rested and len(told) == 2


def test_sets_of_points_may_differ_in_level():
    levels = [hill(level=5.0 * k) for k in range(SETS)]
    pose, _ = climb_surface(always(*levels), at([0, 0, 0]), BASIS, OFFSETS, ball(1.5))
    np.testing.assert_allclose(pose[:3, 3], SUMMIT, atol=1e-9)


def test_no_step_leaves_the_ellipsoid():
    seen: list[np.ndarray] = []

    def pool_at(pose: np.ndarray):
        seen.append(pose[:3, 3])
        return [hill()] * SETS

    climb_surface(pool_at, at(SUMMIT + np.array([3.0, 0, 0])), BASIS, OFFSETS, ball(0.5))
    lengths = [np.linalg.norm(b - a) for a, b in itertools.pairwise(seen)]
    assert lengths[0] == pytest.approx(0.5) and max(lengths) <= WIDEST * 0.5 + 1e-12


def test_a_top_that_stays_out_of_reach_is_none():
    def slope(poses: np.ndarray, gradient: bool = True) -> Scores:
        return scored(poses[:, 0, 3] - 1e-3 * (poses[:, :3, 3] ** 2).sum(-1))

    told: list[Scores] = []
    pose, rested = climb_surface(always(slope), at([0, 0, 0]), BASIS, OFFSETS, ball(1.0), told.append)
    assert pose is None and not rested and len(told) == ROUNDS


def test_ripples_that_stop_gradients_do_not_keep_two_starts_apart():
    """Slopes of the ripples are up to 2 pi 5 0.1 = 3 a mm; along its flat axis the hill's own are under 0.3 up to a mm from the top."""
    rough = [hill(0.1, phase=k) for k in range(8)]
    ends = [
        climb_surface(always(*rough), at(place), BASIS, OFFSETS, ball(1.5))[0][:3, 3]
        for place in ([0, 0, 0], [1.2, -0.9, 0.9])
    ]
    assert np.linalg.norm(ends[0] - ends[1]) < 0.1
    assert max(np.linalg.norm(end - SUMMIT) for end in ends) < 0.25


def test_one_round_more_would_not_move_what_rests(monkeypatch):
    rough, shapes, of = [hill(0.1, phase=k) for k in range(8)], [], Ellipsoid.of
    monkeypatch.setattr(Ellipsoid, "of", lambda *sizes: shapes.append(of(*sizes)) or shapes[-1])
    pose, rested = climb_surface(always(*rough), at([0, 0, 0]), BASIS, OFFSETS, ball(1.5))
    monkeypatch.setattr(response_surface, "ROUNDS", 1)
    shaped = shapes[-1]
    # Of its offsets the first round takes the first half.
    again, _ = climb_surface(always(*rough), pose, BASIS, np.concatenate([OFFSETS, OFFSETS]), shaped)
    assert rested and np.linalg.norm((again - pose)[:3, 3] @ shaped.back) < response_surface.REST


@pytest.mark.parametrize("factor", [-0.9, 0.8, 1.3])
def test_rounds_that_swing_or_creep_or_flee_are_seen_through(factor):
    """Whose points put the top at ``s + factor (x - s)`` as seen from x: plain rounds take that many times the way each, or ever more."""

    def pool_at(pose: np.ndarray):
        top = SUMMIT + factor * (pose[:3, 3] - SUMMIT)
        return [lambda poses, gradient: scored(-0.5 * ((poses[:, :3, 3] - top) ** 2).sum(-1))] * SETS

    told: list[Scores] = []
    start = SUMMIT + np.array([0.1, 0.05, -0.1]) / (1 - factor)
    pose, rested = climb_surface(pool_at, at(start), BASIS, OFFSETS, ball(1.0), told.append)
    np.testing.assert_allclose(pose[:3, 3], SUMMIT, atol=1e-9)
    assert rested and len(told) == 3


def test_a_top_that_each_side_sees_beyond_the_other_is_found():
    """Whole steps, as long as the sides are apart, would lead to and fro between them."""
    way = np.array([1.0, 0, 0])

    def pool_at(pose: np.ndarray):
        aside = float((pose[:3, 3] - SUMMIT) @ way)
        top = SUMMIT if abs(aside) < 0.3 else pose[:3, 3] - 1.9 * np.sign(aside) * way
        return [lambda poses, gradient: scored(-0.5 * ((poses[:, :3, 3] - top) ** 2).sum(-1))] * SETS

    pose, rested = climb_surface(pool_at, at(SUMMIT + 0.5 * way), BASIS, OFFSETS, ball(1.0))
    np.testing.assert_allclose(pose[:3, 3], SUMMIT, atol=1e-9)
    assert rested


def test_points_are_drawn_around_the_pose_of_each_round():
    seen: list[np.ndarray] = []
    told: list[Scores] = []

    def pool_at(pose: np.ndarray):
        seen.append(pose)
        return [hill(0.1, phase=k) for k in range(SETS)]

    climb_surface(pool_at, at([0, 0, 0]), BASIS, OFFSETS, ball(1.5), told.append)
    assert len(seen) == len(told) > 1 and np.array_equal(seen[0], at([0, 0, 0]))
    assert all(np.linalg.norm(a - b) > 0 for a, b in itertools.pairwise(seen))


def test_one_short_step_among_slow_ones_is_no_rest():
    """Far along one axis and slow along the other: the second step is short, and yet 20 times as much is to come."""

    def pool_at(pose: np.ndarray):
        top = SUMMIT + [0.0, 0.95, 0.0] * (pose[:3, 3] - SUMMIT)
        return [lambda poses, gradient: scored(-0.5 * ((poses[:, :3, 3] - top) ** 2).sum(-1))] * SETS

    pose, rested = climb_surface(pool_at, at(SUMMIT + np.array([0.3, 0.8, 0.0])), BASIS, OFFSETS, ball(1.0))
    assert rested and np.linalg.norm(pose[:3, 3] - SUMMIT) < 0.03


def test_the_first_round_is_never_the_last():
    told: list[Scores] = []
    near = at(SUMMIT + np.array([1e-4, 0.0, 0.0]))
    pose, rested = climb_surface(always(hill()), near, BASIS, OFFSETS, ball(1.0), told.append)
    assert rested and len(told) == 2
    np.testing.assert_allclose(pose[:3, 3], SUMMIT, atol=1e-9)


def test_rotations_end_at_the_best_turn():
    """tr(R T') over rotations is highest at T."""
    turns = np.zeros((3, 4, 4))
    for k, (i, j) in enumerate([(1, 2), (2, 0), (0, 1)]):
        turns[k, i, j], turns[k, j, i] = -1, 1
    goal = Rotation.from_rotvec([0.2, -0.1, 0.3]).as_matrix()

    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        return scored(np.einsum("bij,ij->b", poses[:, :3, :3], goal))

    pose, rested = climb_surface(always(objective), np.eye(4), turns, OFFSETS, ball(0.3))
    apart = Rotation.from_matrix(pose[:3, :3] @ goal.T).magnitude()
    assert rested and apart < 0.01
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)


def test_a_saddle_is_climbed_not_sunk_into():
    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        x, y, z = poses[:, :3, 3].T
        return scored(0.5 * x**2 + 0.2 * x - y**2 - z**2)

    seen: list[np.ndarray] = []

    def pool_at(pose: np.ndarray):
        seen.append(pose[:3, 3])
        return [objective] * SETS

    pose, rested = climb_surface(pool_at, at([0, 0.1, 0]), BASIS, OFFSETS, ball(1.0))
    assert all(b[0] > a[0] for a, b in itertools.pairwise(seen)) and seen[-1][0] > 1
    assert pose is None and not rested


@pytest.mark.parametrize("size", [1, 3, 6, 7, 12])
def test_there_are_more_pairs_than_coefficients_of_a_quadratic_and_levels(size):
    assert pairs_for(size) >= size * (size + 1) // 2 + SETS
    assert pairs_for(2 * size) == 2 * pairs_for(size)


def test_an_ellipsoid_is_wider_along_motions_that_bend_the_value_less():
    turn = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    shape = Ellipsoid.of(turn @ np.diag([16.0, 4.0, 1e-3]) @ turn.T, 1.5)
    np.testing.assert_allclose(shape.out, turn @ np.diag([1.5, 1.5 * np.sqrt(2), 3.0]) @ turn.T, atol=1e-12)
    np.testing.assert_allclose(shape.out @ shape.back, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("bend", [np.diag([1.0, -1.0, 0.0]), np.zeros((3, 3))])
def test_along_what_bends_upwards_or_not_at_all_it_is_widest(bend):
    widths = np.diag(Ellipsoid.of(bend, 1.0).out)
    np.testing.assert_allclose(widths, np.where(np.diag(bend) > 0, 1.0, 2.0), atol=1e-12)


def test_after_a_round_the_ellipsoid_has_the_shape_of_the_surface():
    """The second round looks twice as far along the flattest motion as along the steepest, at twice as many places."""
    looked: list[np.ndarray] = []

    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        looked.append(poses[:, :3, 3])
        return scored(-0.5 * (poses[:, :3, 3] ** 2 @ [40.0, 4.0, 1.0]))

    climb_surface(always(objective), at([0.9, 0.9, 0.9]), BASIS, OFFSETS, ball(1.0))
    for around, offsets, expected in (
        (looked[:SETS], OFFSETS[: len(OFFSETS) // 2], [1.0, 1.0, 1.0]),
        (looked[SETS : 2 * SETS], OFFSETS, [1.0, 10**0.25, 2.0]),
    ):
        widths = np.ptp(np.concatenate(around), axis=0) / (2 * np.abs(offsets).max(0))
        np.testing.assert_allclose(widths, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_leave_the_pose_where_it_is(bad):
    start = at([1.0, 2.0, 3.0])
    pose, rested = climb_surface(
        always(lambda poses, gradient: scored(np.full(len(poses), bad))), start, BASIS, OFFSETS, ball(1.0)
    )
    assert np.array_equal(pose, start) and not rested
