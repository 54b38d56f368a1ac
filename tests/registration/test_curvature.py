"""The curvature that pairs of slopes tell of: least squares over all of them, and what is taken for noise."""

from __future__ import annotations

import numpy as np
import pytest

from medmi.registration.curvature import GROWN, LEAST_CURVATURE, Curvature, inverse_of

HESSIAN = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])


def slopes(places: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    return -places @ HESSIAN + noise * rng.standard_normal(places.shape)


def pairs(count: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets and the slopes at plus and minus each."""
    rng = np.random.default_rng(0)
    offsets = rng.standard_normal((count, 3))
    return offsets, slopes(offsets, noise, rng), slopes(-offsets, noise, rng)


def test_of_a_quadratic_it_is_the_inverse_hessian():
    np.testing.assert_allclose(Curvature.of(*pairs(3, 0.0)).inverse, np.linalg.inv(HESSIAN), atol=1e-12)


def test_pairs_that_came_one_by_one_count_as_all_at_once():
    offsets, ahead, behind = pairs(40, 0.3)
    found = Curvature.of(offsets[:4], ahead[:4], behind[:4])
    for row in zip(offsets[4:], ahead[4:], behind[4:], strict=True):
        found.learn(*row)
    fitted = np.linalg.lstsq(2 * offsets, behind - ahead, rcond=None)[0]
    assert found.pairs == 40
    expected = np.linalg.inv((fitted + fitted.T) / 2)
    np.testing.assert_allclose(inverse_of(found.squares, found.products), expected, atol=1e-12)


def test_more_pairs_bring_it_nearer():
    offsets, ahead, behind = pairs(400, 0.3)
    found = Curvature.of(offsets[:4], ahead[:4], behind[:4])
    first = np.abs(found.inverse - np.linalg.inv(HESSIAN)).max()
    for row in zip(offsets[4:], ahead[4:], behind[4:], strict=True):
        found.learn(*row)
    assert np.abs(found.inverse - np.linalg.inv(HESSIAN)).max() < 0.2 * first


def test_the_inverse_is_taken_anew_as_pairs_grow_by_a_share():
    offsets, ahead, behind = pairs(60, 0.3)
    found, counts = Curvature.of(offsets[:20], ahead[:20], behind[:20]), [20]
    for row in zip(offsets[20:], ahead[20:], behind[20:], strict=True):
        before = found.inverse
        found.learn(*row)
        if found.inverse is not before:
            counts.append(found.pairs)
            assert found.inverted == found.pairs
    assert counts[1:] == [22, 25, 28, 31, 35, 39, 43, 48, 53, 59] and GROWN == 1.1


@pytest.mark.parametrize("least", [1e-3, -1.0])
def test_curvatures_under_a_share_of_the_largest_are_taken_as_that(least):
    ways = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    hessian = (ways * [2.0, 1.0, least]) @ ways.T
    expected = (ways / [2.0, 1.0, 2.0 * LEAST_CURVATURE]) @ ways.T
    np.testing.assert_allclose(inverse_of(np.eye(3), hessian), expected, atol=1e-12)


def test_of_a_flat_value_it_is_finite():
    assert np.isfinite(Curvature.of(np.eye(3), np.zeros((3, 3)), np.zeros((3, 3))).inverse).all()
