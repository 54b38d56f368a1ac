"""Probes: another search finds the optimum without being told, other starts come back to it, and the bits repeat."""

from __future__ import annotations

import numpy as np
import pytest

from medmi import register
from medmi.registration.drawing import surplus_of_points
from medmi.registration.evidence import Evidence, distances
from medmi.registration.probes import STARTS, information, level_of, restarted, searched, spacing_of
from tests.oracles.scene import pair, truth


@pytest.fixture(scope="module", params=[2, 3])
def evidence(request) -> Evidence:
    return register(*pair(truth("rigid", request.param)))._evidence


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_another_search_finds_the_same_optimum(evidence):
    away = distances(searched(evidence, rng()), evidence.pose, evidence.foreground)
    assert away[0] < 0.5
    assert away[-1] > evidence.limit_mm  # it looked elsewhere too


def test_other_starts_come_back(evidence):
    ends = restarted(evidence, rng())
    assert ends.shape == (STARTS, 4, 4)
    assert np.median(distances(ends, evidence.pose, evidence.foreground)) < 0.3


def test_the_same_generator_gives_the_same_bits(evidence):
    assert searched(evidence, rng()).tobytes() == searched(evidence, rng()).tobytes()
    assert restarted(evidence, rng()).tobytes() == restarted(evidence, rng()).tobytes()


def test_a_translation_is_searched_without_turning():
    evidence = register(*pair(truth("translation", 2)), transform="translation")._evidence
    for pose in (*searched(evidence, rng()), *restarted(evidence, rng())):
        np.testing.assert_allclose(pose[:3, :3], np.eye(3), atol=1e-12)


def test_a_search_in_the_plane_stays_there():
    evidence = register(*pair(truth("rigid", 2)))._evidence
    for pose in searched(evidence, rng()):
        np.testing.assert_allclose(pose[2], [0, 0, 1, 0], atol=1e-12)
        np.testing.assert_allclose(pose[:2, 2], 0, atol=1e-12)


def test_levels_are_named_by_their_share_of_the_pyramid(evidence):
    assert level_of(evidence, 0.0) is evidence.levels[0] and level_of(evidence, 1.0) is evidence.levels[-1]
    spacing = evidence.levels[-1][0].to_world[:3, : evidence.spatial_dims]
    assert spacing_of(evidence.levels[-1][0]) == pytest.approx(
        np.prod(np.linalg.norm(spacing, axis=0)) ** (1 / evidence.spatial_dims)
    )


def test_information_is_mutual_information_on_its_own_points(evidence):
    first, second = (information(evidence, 1.0, 500, 16, np.random.default_rng(seed)) for seed in (0, 1))
    count = round(500 * surplus_of_points(*evidence.levels[0]))
    assert first.points.shape == (3, count) and not np.array_equal(first.points, second.points)
    assert 0 < float(first(evidence.pose[None], gradient=False).similarity[0]) < 3
