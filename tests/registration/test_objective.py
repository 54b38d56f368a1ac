"""The objective: gradients by finite differences, a closed integral, overlap and merit, threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from medmi.registration.drawing import Drawn, draw
from medmi.registration.levels import Volume, lift, pyramid
from medmi.registration.objective import Objective, Scores, make_objective, merit_of, unrelated_difference
from medmi.registration.terms import TERMS
from medmi.spatial import linear_matrix
from tests.contracts.transforms import parameters
from tests.oracles.smooth_pairs import smooth_problem

NO_MASK = np.zeros((0, 0, 0), np.uint8)


def unit_volume(voxels: np.ndarray) -> Volume:
    """Voxels of 1 mm whose values range from 0 to 1."""
    return Volume(voxels, NO_MASK, np.eye(4), np.zeros(len(voxels), np.float32), np.ones(len(voxels), np.float32))


def objective_of(
    name: str, d: int, channels: int = 1, threads: int = 1, count: int = 3000
) -> tuple[Objective, np.ndarray]:
    """An objective on a smooth pair whose truth is the identity, and its centre."""
    problem = smooth_problem(torch.eye(d + 1, dtype=torch.float64), channels, name in ("mi", "nmi"))
    (fixed,), (moving,) = (pyramid(side, [0.1]) for side in (problem.fixed, problem.moving))
    centre = np.array([0.7, -0.4, 0.3]) * (np.arange(3) < d)
    # Of this seed no point lies on a voxel's face at the poses that are tested: there the derivative depends on the side.
    drawn = draw(fixed, count, np.random.default_rng(1))
    near = np.linalg.norm(drawn.points - centre[:, None], axis=0) < 6.5
    values = drawn.values[:, near]
    drawn = Drawn(drawn.index[:, near], drawn.heights[:, near], drawn.to_world, lambda: values)
    return make_objective(TERMS[name], drawn, moving, centre, 16, threads), centre


def drawn_at(points: np.ndarray, values: np.ndarray) -> Drawn:
    """World points ``(N, 3)`` with values ``(N,)`` of one channel, in equal bins from 0 to 1."""
    row = values.reshape(1, -1).astype(np.float32)
    return Drawn(np.ascontiguousarray(points.T, np.float32), np.clip(row, 0, 1), np.eye(4), lambda: row)


def pose_of(d: int, centre: np.ndarray, family: str = "affine", size: float = 0.15) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = centre
    return lift(linear_matrix(size * parameters(family, d), family, d)) @ shift


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(
    ("d", "channels", "family"),
    [(3, 1, "affine"), (3, 3, "affine"), (2, 1, "affine"), (2, 3, "affine"), (2, 1, "homography")],
)
def test_gradient_is_that_of_central_differences(name, d, channels, family):
    objective, centre = objective_of(name, d, channels)
    pose = pose_of(d, centre, family)
    scores = objective(pose[None])
    assert scores.overlap[0] == 1
    keep = [0, 1, 3] if d == 2 else [0, 1, 2, 3]
    rows = keep if family == "homography" else keep[:-1]
    expected, ours = [], []
    for r in rows:
        for s in keep:
            step = np.zeros((4, 4))
            # Small: where a lone point leaves an entry of the histogram, the slope jumps.
            step[r, s] = 1e-4 / (1 if s == 3 else 6) / (20 if r == 3 else 1)
            ends = objective(np.stack([pose + step, pose - step]), gradient=False).similarity
            expected.append((ends[0] - ends[1]) / 2)
            ours.append((scores.gradient[0] * step).sum())
    np.testing.assert_allclose(ours, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_squared_difference_of_ramps_has_the_gradient_of_its_closed_integral():
    slope, twist = np.array([0.3, -0.5, 0.2]), np.array([0.1, 0.2, -0.4])
    shape = (20, 16, 12)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    middle = (np.array(shape) - 1) / 2
    to_world = np.eye(4)
    to_world[:3, 3] = -middle
    ramp = ((index - middle) @ slope).astype(np.float32).reshape(1, *shape)
    moving = Volume(ramp, NO_MASK, to_world, ramp.min((1, 2, 3)), ramp.max((1, 2, 3)))
    kept = index[(np.abs(index - middle) < 5).all(1)] - middle
    fixed_values = kept @ (slope + twist) + 0.25
    objective = make_objective(TERMS["ssd"], drawn_at(kept, fixed_values), moving, np.zeros(3), 16, 1)
    # residual = -(twist . x) - 1/4, so -mean(residual^2) has gradient 2 mean((twist . x + 1/4) [x, 1]) times each slope.
    moment = np.diag((kept**2).mean(0))
    assert np.allclose(np.cov(kept.T, bias=True), moment)
    expected = 2 * np.outer(slope, np.append(moment @ twist, 0.25))
    np.testing.assert_allclose(objective(np.eye(4)[None]).gradient[0, :3], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_threads_and_batches_do_not_change_a_bit(name, monkeypatch):
    objective, centre = objective_of(name, 3, 3, count=800)
    poses = np.stack([pose_of(3, centre, size=s) for s in np.linspace(-0.6, 0.6, 37)])
    one, values = objective(poses), objective(poses, gradient=False).value
    for threads, batch in ((2, 65536), (3, 65536), (1, 1), (3, 1), (2, 5 * objective.points.shape[1])):
        monkeypatch.setattr("medmi.registration.objective.BATCH", batch)
        monkeypatch.setattr("medmi.registration.objective.VALUES_BATCH", batch)
        twin = Objective(
            objective.term, objective.samples, objective.points, objective.moving, objective.to_index, threads
        )
        many = twin(poses)
        for field in ("similarity", "overlap", "merit", "gradient"):
            np.testing.assert_array_equal(getattr(one, field), getattr(many, field))
        np.testing.assert_array_equal(twin(poses, gradient=False).value, values)
    alone = objective(poses[5:6])
    assert alone.similarity[0] == one.similarity[5] and (alone.gradient[0] == one.gradient[5]).all()


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("d", [2, 3])
def test_gradient_is_left_out_where_not_asked(name, d):
    objective, centre = objective_of(name, d)
    pose = pose_of(d, centre)[None]
    with_it, without = objective(pose), objective(pose, gradient=False)
    assert with_it.similarity[0] == without.similarity[0]
    assert with_it.gradient.any() and not without.gradient.any()


def slid(objective: Objective, centre: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Poses that slide the moving image away along the first world axis."""
    poses = np.tile(np.eye(4), (len(distances), 1, 1))
    poses[:, :3, 3] = centre
    poses[:, 0, 3] += distances
    return poses


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("d", [2, 3])
def test_merit_is_best_at_the_truth_and_nothing_where_nothing_overlaps(name, d):
    objective, centre = objective_of(name, d)
    distances = np.array([0.0, 4, 8, 12, 16, 20, 24, 400])
    scores = objective(slid(objective, centre, distances), gradient=False)
    assert scores.overlap[0] == 1 and scores.overlap[-1] == 0
    assert scores.merit[0] > 0 and scores.merit[-1] == 0
    assert np.argmax(scores.merit) == 0


@pytest.mark.parametrize("name", TERMS)
def test_a_perfect_fit_of_a_part_does_not_beat_a_fair_fit_of_all(name):
    """Noise on one side lowers the similarity of the whole; leaving that side outside must not pay."""
    rng = np.random.default_rng(0)
    shape = (40, 20, 12)
    pattern = rng.uniform(0, 1, (1, *shape)).astype(np.float32)
    noisy = pattern.copy()
    noisy[:, 24:] += rng.normal(0, 0.05, (1, 16, 20, 12)).astype(np.float32)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    drawn = drawn_at(index, noisy)

    def scores(voxels: np.ndarray) -> Scores:
        """Of the pose that is right, where the moving image is the clean pattern or its first part."""
        volume = unit_volume(np.ascontiguousarray(voxels))
        return make_objective(TERMS[name], drawn, volume, np.zeros(3), 16, 1)(np.eye(4)[None])

    whole, part = scores(pattern), scores(pattern[:, :24])
    assert part.similarity[0] > whole.similarity[0] and part.overlap[0] < whole.overlap[0]
    assert part.merit[0] < whole.merit[0]


@pytest.mark.parametrize("name", TERMS)
def test_merit_shrinks_with_the_overlap_where_the_similarity_does_not(name):
    rng = np.random.default_rng(0)
    half = rng.uniform(0, 1, (1, 20, 20, 12)).astype(np.float32)
    twice = np.concatenate([half, half], 1)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in twice.shape[1:]], indexing="ij"), -1).reshape(-1, 3)
    noise = rng.normal(0, 0.05, half.shape).astype(np.float32)
    values = twice + np.concatenate([noise, noise], 1)
    drawn = drawn_at(index, values)
    still = np.eye(4)[None]
    volumes = [unit_volume(v) for v in (twice, half)]
    both, one = (make_objective(TERMS[name], drawn, v, np.zeros(3), 16, 1)(still) for v in volumes)
    assert (both.overlap[0], one.overlap[0]) == (1, 0.5)
    assert one.similarity[0] == pytest.approx(both.similarity[0], rel=0.05)
    assert one.merit[0] == pytest.approx(both.merit[0] / 2, rel=0.05)


@pytest.mark.parametrize("d", [2, 3])
def test_merit_counts_the_overlap_in_the_image_where_it_is_the_smaller(d):
    matrix = linear_matrix(parameters("affine", d), "affine", d)
    grown = float(torch.linalg.det(matrix[:-1, :-1]))
    assert grown != pytest.approx(1, abs=0.1)
    there, back = lift(matrix), lift(torch.linalg.inv(matrix))
    # 60 units of volume overlap as the fixed image of 100 sees them, ``60 * grown`` as the moving one of 300 does.
    merits = [merit_of(np.array([0.7]), np.array([60 / 100]), there[None]) * 100]
    merits += [merit_of(np.array([0.7]), np.array([60 * grown / 300]), back[None]) * 300]
    np.testing.assert_allclose(merits, 0.7 * 60 * min(1, grown), rtol=1e-12)


def test_merit_of_a_homography_does_not_depend_on_its_scale():
    matrix = linear_matrix(parameters("homography", 2), "homography", 2)
    poses = np.stack([lift(matrix / matrix[-1, -1]), lift(2.5 * matrix)])
    one, other = merit_of(np.ones(2), np.ones(2), poses)
    assert one == pytest.approx(other, rel=1e-12)


def test_unrelated_difference_is_that_of_shuffled_voxels():
    rng = np.random.default_rng(0)
    fixed = rng.normal(3, 2, (2, 6000)).astype(np.float32)
    voxels = rng.gamma(2, 3, (2, 20, 20, 15)).astype(np.float32)
    shuffled = np.stack([rng.permutation(v.ravel()) for v in voxels])
    expected = ((fixed - shuffled) ** 2).sum(0).mean()
    assert unrelated_difference(fixed, unit_volume(voxels)) == pytest.approx(expected, rel=0.03)


def test_overlap_counts_points_in_the_mask():
    objective, centre = objective_of("ncc", 3)
    volume = objective.moving
    mask = np.zeros(volume.voxels.shape[1:], np.uint8)
    mask[: mask.shape[0] // 2] = 1
    masked = Volume(volume.voxels, mask, volume.to_world, volume.low, volume.high)
    half = Objective(objective.term, objective.samples, objective.points, masked, objective.to_index)
    pose = slid(objective, centre, np.zeros(1))
    index = (objective.points.T + centre) @ objective.to_index[:3, :3].T + objective.to_index[:3, 3]
    expected = index[:, 0] < mask.shape[0] // 2 - 0.5
    score = half(pose)
    assert score.overlap[0] == pytest.approx(expected.mean(), abs=2e-3)
    fixed = objective.samples.fixed[0, expected]
    whole = objective(pose)
    assert score.similarity[0] != whole.similarity[0]
    assert score.similarity[0] == pytest.approx(pearsonr(fixed, fixed).statistic, abs=0.02)


def test_points_that_stand_for_a_share_of_the_image_overlap_by_no_more():
    objective, centre = objective_of("mi", 3)
    pose = slid(objective, centre, np.array([0.4]))
    whole, part = objective(pose), replace(objective, share=0.25)(pose)
    assert part.overlap[0] == pytest.approx(whole.overlap[0] / 4)
    assert part.merit[0] == pytest.approx(whole.merit[0] / 4)
    for name in ("similarity", "value", "gradient"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


@pytest.mark.parametrize("name", ["mi", "nmi"])
def test_over_a_background_rim_the_gradient_is_that_of_the_value(name):
    """A blob in air whose moving image is cut through the air: sliding it loses and wins points there."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (30, 22, 18)], indexing="ij"), -1)
    blob = 4 * np.exp(-((index - [14, 11, 9]) ** 2).sum(-1) / 40)[None]
    noisy = (blob + np.random.default_rng(0).uniform(0, 0.2, blob.shape)).astype(np.float32)
    full, cut = unit_volume(noisy), unit_volume(np.ascontiguousarray(noisy[:, 3:]))
    cut.to_world[0, 3] = 3
    drawn = draw(full, 40_000, np.random.default_rng(1))
    objective = make_objective(TERMS[name], drawn, cut, np.zeros(3), 16, 1)
    slide = np.eye(4)
    slide[0, 3] = 0.4
    step = np.zeros((4, 4))
    step[0, 3] = 0.02
    ends = objective(np.stack([slide + step, slide - step]), gradient=False)
    expected = (ends.value[0] - ends.value[1]) / 0.04
    free = (ends.similarity[0] - ends.similarity[1]) / 0.04
    here = objective(slide[None])
    assert here.value[0] < here.similarity[0] - objective.term.unrelated(objective.samples)
    assert abs(here.gradient[0, 0, 3] - expected) < 0.25 * abs(free - expected)


@pytest.mark.parametrize("name", ["mi", "ncc"])
def test_what_is_lost_over_a_background_rim_is_counted_whatever_the_term(name):
    """Points on a lattice, the moving image cut to half of it: in air, in tissue, under a mask."""
    points = np.stack(np.meshgrid(*[np.arange(2.0, 18)] * 3, indexing="ij"), -1).reshape(-1, 3)
    drawn = drawn_at(points, np.linspace(0, 1, len(points)))
    air, tissue = (unit_volume(np.full((1, 10, 20, 20), value, np.float32)) for value in (0.1, 0.9))
    masked = replace(air, mask=np.ones(air.voxels.shape[1:], np.uint8))
    lost = [make_objective(TERMS[name], drawn, v, np.zeros(3), 16, 1).lost(np.eye(4)) for v in (air, tissue, masked)]
    assert lost == [pytest.approx((points[:, 0] > 9).mean()), 0, 0]
