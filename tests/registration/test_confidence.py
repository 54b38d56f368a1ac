"""The judgement of a registration on scenes in closed form: what lowers it, what must not move it, and what a result makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from medmi import Grid, InputError, RegistrationResult, register
from medmi.registration import confidence
from medmi.registration.calibration import CONFIDENCE, ERROR, Reading
from medmi.registration.confidence import confidence_of, error_ratio_of, judge, read, rival_probabilities
from medmi.registration.edges import edge_agreement
from medmi.registration.evidence import Evidence
from medmi.registration.probes import information
from tests.oracles.grids import oblique_grid
from tests.oracles.scene import grids, image, moved_points, pair, scene, truth


@pytest.fixture(scope="module", params=[2, 3])
def done(request) -> RegistrationResult:
    return register(*pair(truth("rigid", request.param)))


def unrelated(spatial_dims: int) -> tuple[MetaTensor, MetaTensor]:
    """Two smooth random fields that share nothing, not even an outline."""
    first, second = (
        image(gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 2.5), grid)
        for seed, grid in enumerate(grids(spatial_dims))
    )
    return first, second


def test_a_true_pose_is_trusted_and_unrelated_images_are_not(done):
    images = unrelated(done.fixed_grid.spatial_dims)
    # Which chance maximum is found, and so what it scores, depends on the seed.
    wrong = [register(*images, seed=seed) for seed in range(5)]
    assert done.confidence > 0.8 > 0.2 > np.median([w.confidence for w in wrong])
    assert done.expected_error_mm < done.error_limit_mm < min(w.expected_error_mm for w in wrong)


def test_noise_lowers_the_confidence_and_raises_the_expected_error():
    fixed, moving = pair(truth("rigid", 3))
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=moving.shape)).float()
    results = [register(fixed, MetaTensor(moving.as_tensor() + s * noise, affine=moving.affine)) for s in (0, 1, 4)]
    assert results[0].confidence > results[2].confidence
    assert results[0].expected_error_mm < results[1].expected_error_mm < results[2].expected_error_mm


@pytest.mark.parametrize(("gain", "offset"), [(250.0, -1000.0), (0.004, 3.0)])
def test_gain_and_offset_do_not_matter(done, gain, offset):
    evidence = done._evidence
    levels = [
        (
            fixed,
            replace(moving, voxels=moving.voxels * gain + offset, low=moving.low * gain + offset, high=moving.high * gain + offset),
        )
        for fixed, moving in evidence.levels
    ]  # fmt: skip
    other = judge(replace(evidence, levels=levels))
    assert other.confidence == pytest.approx(done.confidence, abs=0.03)
    assert other.expected_error_mm == pytest.approx(done.expected_error_mm, rel=0.1)


def test_an_inverted_contrast_does_not_matter(done):
    evidence = done._evidence
    levels = [(f, replace(m, voxels=-m.voxels, low=-m.high, high=-m.low)) for f, m in evidence.levels]
    other = judge(replace(evidence, levels=levels))
    assert other.confidence == pytest.approx(done.confidence, abs=0.05)
    assert other.expected_error_mm == pytest.approx(done.expected_error_mm, rel=0.2)


def test_a_pose_beside_the_optimum_is_not_trusted(done):
    evidence = done._evidence
    aside = evidence.pose.copy()
    aside[:2, 3] += 3 * evidence.limit_mm / 2**0.5
    away = judge(replace(evidence, pose=aside))
    assert away.confidence < 0.5
    assert away.expected_error_mm > 2 * done.expected_error_mm
    # The optimum itself is then the most probable alternative.
    assert away.rivals.distances[0] == pytest.approx(3 * evidence.limit_mm, rel=0.2)
    assert away.rivals.probabilities[0] > 0.5
    assert away.rivals.probabilities.sum() > 0.95


def test_a_rival_is_held_against_the_best_place_within_the_limit(done, monkeypatch):
    """The judged pose lies 0.9 limits beside the optimum, a rival 0.5 limits on its other side."""
    evidence = done._evidence

    def beside(limits: float) -> np.ndarray:
        pose = evidence.pose.copy()
        pose[0, 3] += limits * evidence.limit_mm
        return pose

    def lead(*found: np.ndarray) -> float:
        monkeypatch.setattr(confidence, "searched", lambda *_: np.stack(found))
        return judge(replace(evidence, pose=beside(0.9))).measurements["lead"]

    assert lead(beside(-0.5)) < 0 < lead(beside(-0.5), evidence.pose)


def test_edges_are_asked_at_other_optima_and_one_limit_away(done, monkeypatch):
    evidence = done._evidence
    aside = evidence.pose.copy()
    aside[:2, 3] += 3 * evidence.limit_mm / 2**0.5

    def measured(pose: np.ndarray, *found: np.ndarray) -> tuple[float, float]:
        monkeypatch.setattr(confidence, "searched", lambda *_: np.stack(found))
        measurements = judge(replace(evidence, pose=pose)).measurements
        return measurements["edge_fall"], measurements["edge_lead"]

    fall, lead = measured(evidence.pose, evidence.pose)
    assert lead == 1  # none is elsewhere
    assert measured(evidence.pose, aside) == (fall, pytest.approx(share_lost(evidence, aside), abs=0.05))
    other_fall, other_lead = measured(aside, evidence.pose)
    assert -1 <= other_lead < 0 < lead and -1 <= other_fall < fall <= 1


def share_lost(evidence: Evidence, aside: np.ndarray) -> float:
    """By what share the edges agree less aside, on points of its own."""
    points = information(evidence, 1.0, 24_000, 32, np.random.default_rng(3))
    here, there = edge_agreement(evidence.levels[-1][0], points, np.stack([evidence.pose, aside]), evidence.centre)
    return 1 - there / here


def symmetric(matrix: np.ndarray) -> tuple[MetaTensor, MetaTensor]:
    """Two contrasts of an object that a half turn about the last axis carries onto itself, moved by ``matrix``; all of it in view."""
    d = len(matrix) - 1
    half_turn, found = np.array([-1.0, -1.0, 1.0])[:d], []
    maps = (np.eye(d + 1), np.linalg.inv(matrix))
    for seed, back, contrast in zip((0, 1), maps, (lambda v: v, lambda v: np.cos(2 * v))):
        grid = oblique_grid((64, 53, 35)[:d], seed)
        points = 1.6 * moved_points(back, grid.points().numpy())
        found.append(image(contrast(scene(points) + scene(points * half_turn)), grid))
    return found[0], found[1]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_symmetric_object_has_its_twin_as_alternative(spatial_dims):
    motion = truth("rigid", spatial_dims)
    pair = symmetric(motion)
    result, *others = (register(*pair, seed=seed) for seed in range(4))
    other = result.alternatives[0]
    assert 0.05 < np.mean([r.alternatives[0].probability for r in (result, *others)]) < 0.9
    assert result.confidence + sum(a.probability for a in result.alternatives) <= 1 + 1e-9
    probabilities = [a.probability for a in result.alternatives]
    assert probabilities == sorted(probabilities, reverse=True)
    twin = motion @ np.diag([-1.0, -1.0, *[1.0] * (spatial_dims - 1)])
    best, second = (a.transform.matrix.numpy() for a in (result, other))
    apart = [max(np.abs(best - a).max(), np.abs(second - b).max()) for a, b in ((motion, twin), (twin, motion))]
    assert min(apart) < 0.5
    assert other.distance_mm > result.error_limit_mm


def test_an_object_without_symmetry_has_no_probable_alternative(done):
    assert sum(a.probability for a in done.alternatives) < 0.1


def test_the_same_call_gives_the_same_bits(done):
    first, second = judge(done._evidence), judge(done._evidence)
    assert (first.confidence, first.expected_error_mm) == (second.confidence, second.expected_error_mm)
    assert first.covariance.tobytes() == second.covariance.tobytes()


@pytest.mark.parametrize("family", ["translation", "similarity", "affine", "homography"])
def test_every_family_is_judged(family):
    result = register(*pair(truth(family, 2)), transform=family)
    assert 0 <= result.confidence <= 1 and result.expected_error_mm > 0
    assert result.error_map().shape == (1, *result.fixed_grid.shape)


@pytest.mark.parametrize("similarity", ["nmi", "ncc", "ssd"])
def test_every_term_on_points_is_judged(similarity):
    assert register(*pair(truth("rigid", 2), "same"), similarity=similarity).confidence > 0.6


def test_the_error_map_has_the_expected_error_as_its_mean_over_the_foreground(done):
    found = done.error_map()
    assert found.dtype == torch.float32 and Grid.of(found).same_as(done.fixed_grid)
    evidence = done._evidence
    points = torch.from_numpy(evidence.foreground + evidence.centre)[:, : evidence.spatial_dims]
    index = done.fixed_grid.world_to_index(points).round().long().T
    assert float(found[0][tuple(index)].mean()) == pytest.approx(done.expected_error_mm, rel=0.02)


def test_the_error_grows_towards_the_corners(done):
    found = done.error_map()[0]
    middle = tuple(n // 2 for n in found.shape)
    assert float(found.as_tensor().flatten()[0]) > float(found[middle])


def test_a_loss_on_the_whole_grid_is_not_judged():
    result = register(*pair(truth("rigid", 2)), similarity="lncc")
    assert (result.confidence, result.expected_error_mm, result.error_limit_mm) == (None, None, None)
    assert result.alternatives == ()
    with pytest.raises(InputError, match="error_map: there is none"):
        result.error_map()


def test_a_failed_registration_has_no_confidence_left(done):
    failed = replace(done, status="failed: the overlap fell")
    assert failed.confidence == 0 and failed.expected_error_mm is None and failed.alternatives == ()
    with pytest.raises(InputError, match="failed"):
        failed.error_map()


def test_one_rival_has_what_the_normal_law_gives_it():
    for z in (2.0, 0.5, -1.0):
        np.testing.assert_allclose(rival_probabilities(np.array([z])), norm.cdf(-z))


def test_more_rivals_share_the_odds_of_the_strongest():
    found = rival_probabilities(np.array([2.0, 0.5]))
    odds = norm.cdf([-2.0, -0.5]) / norm.cdf([2.0, 0.5])
    np.testing.assert_allclose(found.sum(), norm.cdf(-0.5))
    np.testing.assert_allclose(found[0] / found[1], odds[0] / odds[1])
    assert rival_probabilities(np.array([])).tolist() == []
    assert rival_probabilities(np.array([-400.0])) < 1  # nothing is certain


def test_what_does_not_hold_elsewhere_is_chance():
    sharp = dict.fromkeys(CONFIDENCE.weights, 0.0) | dict.fromkeys(ERROR.weights, 0.0)
    sharp |= {"fine_fall": 50.0, "extent": 20.0}
    assert confidence_of(sharp | {"held": 0.9}, 0.0) > 0.99
    assert confidence_of(sharp | {"held": 0.9}, 0.7) == pytest.approx(0.3)
    assert confidence_of(sharp | {"held": 0.45}, 0.0) == pytest.approx(0.15 + 0.85 * 0.5)
    assert confidence_of(sharp | {"held": 0.1}, 0.0) == confidence_of(sharp | {"held": 0.4}, 0.0) == 0.15
    assert error_ratio_of(sharp | {"held": 0.0}) == pytest.approx(20.0)
    assert error_ratio_of(sharp | {"held": 0.9}) == pytest.approx(np.exp(read(ERROR, sharp | {"held": 0.9})))


def test_a_reading_is_a_linear_predictor():
    assert read(Reading(1.0, {"a": 2.0, "b": -1.0}), {"a": 3.0, "b": 4.0, "c": 9.0}) == 3.0
    for row in (CONFIDENCE, ERROR):
        assert all(np.isfinite(v) for v in (row.intercept, *row.weights.values()))


def test_no_measurement_speaks_against_its_meaning():
    for_right = {"fine_fall", "relative_fall", "lead", "edge_fall", "edge_lead", "held", "view"}
    for name, weight in CONFIDENCE.weights.items():
        assert (weight > 0) == (name in for_right), name
    for name, weight in ERROR.weights.items():
        assert (weight < 0) == (name in for_right), name


def test_evidence_is_frozen(done):
    assert isinstance(done._evidence, Evidence)
    with pytest.raises(AttributeError):
        done._evidence.seed = 1
