"""Refinement by averaged steps: on noisy quadratics whose summit and curvature are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.linalg import logm

from medmi.registration import averaging
from medmi.registration.ascent import Climbable
from medmi.registration.averaging import FEW_PARAMETERS, LEAST_LOOKS, LOOK, POOL, TRIAL, curvature, refine, within
from medmi.registration.motion import moved_along
from medmi.registration.objective import Scores
from medmi.registration.response_surface import ROUNDS, PoolAt

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


def always(pool: list[Climbable]) -> PoolAt:
    """The same objectives around every pose."""
    return lambda pose: pool


def refined(noise: float, steps: int = 64, seed: int = 0, radius: float = 1.0):
    draw = hill(noise, seed)
    return refine(always([draw() for _ in range(POOL)]), np.eye(4), BASIS, steps, radius, np.random.default_rng(seed))


def test_a_quadratic_gives_its_gradient_and_inverse_hessian():
    offsets = within(9, 3, 0.7, np.random.default_rng(1))
    slope, inverse = curvature(hill()(), np.eye(4), BASIS, offsets)
    np.testing.assert_allclose(slope, HESSIAN @ SUMMIT, atol=1e-10)
    np.testing.assert_allclose(inverse, np.linalg.inv(HESSIAN), atol=1e-10)


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

    _, inverse = curvature(objective, np.eye(4), turns, within(60, 3, 1e-3, np.random.default_rng(0)))
    # tr(W exp(t K)) = tr(W) - t^2 (sum of the two weights across the axis) / 2 + O(t^4).
    np.testing.assert_allclose(np.linalg.inv(inverse), np.diag([3.0, 4.0, 5.0]), rtol=1e-5, atol=1e-5)


def test_a_smooth_hill_is_climbed_to_its_summit_and_rests():
    end = refined(0.0)
    np.testing.assert_allclose(end.pose[:3, 3], SUMMIT, atol=1e-3)
    assert end.rested
    np.testing.assert_allclose(end.inverse_hessian, np.linalg.inv(HESSIAN), atol=1e-8)


def test_steps_go_on_after_the_mean_is_at_rest_until_it_is_still(monkeypatch):
    def after(noise: float) -> tuple[int, bool]:
        taken, draw = [], hill(noise)
        end = refine(
            always([draw() for _ in range(POOL)]), np.eye(4), BASIS, 64, 1.0, np.random.default_rng(0), taken.append
        )
        return len(taken), end.rested

    assert after(0.0) == ((2 + LEAST_LOOKS) * LOOK, True)
    monkeypatch.setattr(averaging, "QUIET", 0.0)
    monkeypatch.setattr(averaging, "STILL", 0.1 * averaging.REST)
    until_still = after(0.09)
    monkeypatch.setattr(averaging, "STILL", averaging.REST)
    until_rest = after(0.09)
    assert until_rest[0] < until_still[0] and until_rest[1] and until_still[1]


def test_the_mean_of_steps_is_nearer_than_the_draws_are(monkeypatch):
    """A pool of summits has a mean nearer than one of them by the root of their number."""
    monkeypatch.setattr(averaging, "REST", np.inf)
    far = [np.linalg.norm(refined(0.3, 96, seed).pose[:3, 3] - SUMMIT) for seed in range(40)]
    single = 0.3 * np.sqrt(3)
    assert np.sqrt(np.mean(np.square(far))) < 1.25 * single / np.sqrt(POOL)


def test_the_start_is_forgotten():
    """The same draws from two starts end together."""
    draw, ends = hill(0.3), []
    pool = [draw() for _ in range(POOL)]
    for start in ([0.0, 0.0, 0.0], [0.6, -0.7, 0.4]):
        pose = np.eye(4)
        pose[:3, 3] = start
        ends.append(refine(always(pool), pose, BASIS, 64, 1.0, np.random.default_rng(5)).pose[:3, 3])
    assert np.linalg.norm(ends[0] - ends[1]) < 0.01


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
        ends.append(refine(always(pool), pose, basis, 64, 0.8, np.random.default_rng(5), told.append).pose[:3, 3])
    return ends, len(told)


def test_where_steps_find_no_rest_a_response_surface_brings_starts_together(monkeypatch):
    ends, calls = restless(3)
    assert TRIAL < calls <= TRIAL + ROUNDS
    monkeypatch.setattr(averaging, "REST", np.inf)
    by_steps, steps = restless(3)
    assert steps == 64
    assert np.linalg.norm(ends[0] - ends[1]) < 0.5 * np.linalg.norm(by_steps[0] - by_steps[1])


@pytest.mark.parametrize(("astray", "by_a_surface"), [(1e-3, True), (1e3, False)])
def test_families_of_many_parameters_go_by_a_surface_only_where_their_steps_go_astray(
    astray, by_a_surface, monkeypatch
):
    monkeypatch.setattr(averaging, "ASTRAY", astray)
    calls = restless(FEW_PARAMETERS + 1)[1]
    assert 64 < calls <= 64 + ROUNDS if by_a_surface else calls == 64


def test_where_a_surface_finds_no_top_the_steps_stand(monkeypatch):
    by_a_surface, _ = restless(3)
    monkeypatch.setattr(averaging, "climb_surface", lambda *_: (None, False))
    by_trial, calls = restless(3)
    monkeypatch.setattr(averaging, "FEW_PARAMETERS", 2)
    monkeypatch.setattr(averaging, "ASTRAY", 1e-3)
    by_all, all_calls = restless(3)
    assert (calls, all_calls) == (TRIAL, 64)
    assert np.linalg.norm(by_trial[0] - by_a_surface[0]) > 0 and np.linalg.norm(by_trial[0] - by_all[0]) > 0


def test_a_look_without_drift_ends_no_steps_where_another_saw_no_rest(monkeypatch):
    """By chance one look of restless steps sees no drift: whether a surface follows is up to all of them."""
    looks = itertools.chain([2 * averaging.REST, 0.0], itertools.repeat(averaging.REST))
    monkeypatch.setattr(averaging, "_drift", lambda visited: next(looks))
    taken: list[Scores] = []
    refine(always([hill()() for _ in range(POOL)]), np.eye(4), BASIS, 64, 1.0, np.random.default_rng(0), taken.append)
    assert TRIAL < len(taken) <= TRIAL + ROUNDS


NOISE, MORE = 0.9 * averaging.QUIET, 1.1 * averaging.QUIET


@pytest.mark.parametrize(
    ("few", "drifts", "looks"),
    [
        (True, [NOISE] * 3, 3),
        (True, [0.0, MORE, 0.0], 3),
        (False, [0.0, MORE, 0.0], 3),
        (True, [NOISE, NOISE, MORE, *[NOISE] * 3], 6),
        (True, [1.1 * averaging.REST, *[NOISE] * 9], None),
        (False, [2 * averaging.REST, *[NOISE] * 3], 4),
        (False, [NOISE, NOISE, MORE] * 3, None),
    ],
)
def test_looks_running_that_see_but_noise_end_the_steps(few, drifts, looks, monkeypatch):
    """Those of few parameters only where none saw no rest: else it is up to all of them whether a surface follows."""
    seen = itertools.chain(drifts, itertools.repeat(MORE))
    monkeypatch.setattr(averaging, "_drift", lambda visited: next(seen))
    monkeypatch.setattr(averaging, "FEW_PARAMETERS", 3 if few else 2)
    taken: list[Scores] = []
    end = refine(
        always([hill()() for _ in range(POOL)]), np.eye(4), BASIS, 64, 1.0, np.random.default_rng(0), taken.append
    )
    assert len(taken) == (64 if looks is None else (2 + looks) * LOOK)
    assert end.rested


@pytest.mark.parametrize(("drift", "by_a_surface"), [(1.01, True), (0.99, False)])
def test_many_parameters_go_astray_by_the_drift_of_all_looks_on_average(drift, by_a_surface, monkeypatch):
    looks = itertools.cycle([0.5 * drift * averaging.ASTRAY, 1.5 * drift * averaging.ASTRAY])
    monkeypatch.setattr(averaging, "_drift", lambda visited: next(looks))
    monkeypatch.setattr(averaging, "FEW_PARAMETERS", 2)
    taken: list[Scores] = []
    count = 3 * LOOK + 5 * LOOK
    refine(
        always([hill()() for _ in range(POOL)]), np.eye(4), BASIS, count, 1.0, np.random.default_rng(0), taken.append
    )
    assert (len(taken) > count) == by_a_surface


def test_too_few_steps_for_a_look_are_no_reason_for_a_surface(monkeypatch):
    monkeypatch.setattr(averaging, "FEW_PARAMETERS", 2)
    taken: list[Scores] = []
    pool = always([hill(0.3)() for _ in range(POOL)])
    refine(pool, np.eye(4), BASIS, 3 * LOOK - 1, 1.0, np.random.default_rng(0), taken.append)
    assert len(taken) == 3 * LOOK - 1


@pytest.mark.parametrize("rest", [0.0, np.inf])
def test_the_scores_are_those_of_the_end_by_points_around_it(rest, monkeypatch):
    """Points drawn around x see the value at y as ``y - x``; so 0 at the end itself, whether steps or a surface led there."""
    monkeypatch.setattr(averaging, "REST", rest)

    def pool_at(pose: np.ndarray) -> list[Climbable]:
        def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
            value = poses[:, 0, 3] - pose[0, 3] - 0.5 * np.square(poses[:, 0, 3] - 1)
            slopes = np.zeros((len(poses), 4, 4))
            slopes[:, 0, 3] = 2 - poses[:, 0, 3]
            return Scores(value, np.ones(len(poses)), value, value, slopes)

        return [objective] * POOL

    end = refine(pool_at, np.eye(4), BASIS, 64, 0.1, np.random.default_rng(0))
    expected = pool_at(end.pose if rest == 0 else np.eye(4))[0](end.pose[None])
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
    pose = refine(always([objective]), start, turns, 40, 0.5, np.random.default_rng(0)).pose
    angle = np.real(logm(pose[:3, :3]))[1, 0]
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    assert angle == pytest.approx(np.pi / 2, abs=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_slopes_that_are_not_finite_leave_the_pose_where_it_is(bad):
    def objective(poses: np.ndarray, gradient: bool = True) -> Scores:
        return Scores(*[np.full(len(poses), bad)] * 4, np.full((len(poses), 4, 4), bad))

    assert np.array_equal(
        refine(always([objective]), np.eye(4), BASIS, 4, 1.0, np.random.default_rng(0)).pose, np.eye(4)
    )


def test_each_pair_is_told_and_lies_around_the_pose():
    told: list[Scores] = []
    refine(always([hill()()]), np.eye(4), BASIS, 5, 1.0, np.random.default_rng(0), told.append)
    assert [len(scores.similarity) for scores in told] == [2] * 5


def test_offsets_fill_the_ball():
    lengths = np.linalg.norm(within(4000, 3, 2.0, np.random.default_rng(0)), axis=1)
    assert lengths.max() <= 2
    # In three dimensions the share within r is (r / R)^3.
    assert (lengths < 1).mean() == pytest.approx(1 / 8, abs=0.02)
