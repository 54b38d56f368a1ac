"""Similarity terms: closed forms, SciPy's correlation, derivatives by finite differences, invariance to units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm, pearsonr

from medmi.registration.histogram_cpu import inform_tables
from medmi.registration.terms import TERMS, Samples
from tests.contracts.kept import kept_of
from tests.oracles.dense_histogram import entropy, joint_counts, mutual_information

BINS = 8


def samples_of(fixed: np.ndarray, bins: int = BINS) -> Samples:
    """Samples whose values are their own bin positions."""
    channels, fixed = len(fixed), np.ascontiguousarray(fixed)
    return Samples(lambda: fixed, fixed, np.zeros(channels, np.float32), np.ones(channels, np.float32), bins, 3.0)


def noise(count: int = 300, channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, BINS - 1.05, (channels, count)).astype(np.float32)


def evaluated(name: str, moved: np.ndarray, weights: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(B,)`` of moved values ``(C, B, N)`` and derivatives ``(C + 1, B, N)`` by them and, last, by the weights."""
    scores, by_value, by_weight = TERMS[name].evaluate(kept_of(moved, weights), samples_of(fixed), True)
    assert by_value is not None and by_weight is not None
    return scores, np.concatenate([by_value, by_weight[None]])


def value(name: str, moved: np.ndarray, fixed: np.ndarray, weights: np.ndarray | None = None) -> float:
    weights = np.ones((1, fixed.shape[1]), np.float32) if weights is None else weights
    return float(TERMS[name].evaluate(kept_of(moved[:, None], weights), samples_of(fixed), False)[0][0])


def whole(count: int = 300, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, BINS, (channels, count)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_identical_images_have_their_entropy_and_nmi_of_two(channels):
    fixed = whole(channels=channels)
    expected = sum(entropy(np.bincount(c.astype(int), minlength=BINS) / len(c)) for c in fixed)
    assert value("mi", fixed, fixed) == pytest.approx(expected, abs=1e-9)
    assert value("nmi", fixed, fixed) == pytest.approx(2 * channels, abs=1e-9)


def test_relabelled_images_lose_nothing():
    fixed = whole()
    swapped = np.random.default_rng(2).permutation(BINS).astype(np.float32)[fixed.astype(int)]
    assert value("mi", swapped, fixed) == pytest.approx(value("mi", fixed, fixed), abs=1e-9)


def test_independent_images_have_none_and_nmi_of_one():
    fixed, moved = (a.reshape(1, -1).astype(np.float32) for a in np.mgrid[:BINS, :BINS])
    assert value("mi", moved, fixed) == pytest.approx(0, abs=1e-9)
    assert value("nmi", moved, fixed) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_histogram_terms_are_the_dense_formula_and_keep_to_their_range(seed):
    fixed, moved = noise(seed=seed), noise(seed=seed + 50)
    moved = (0.7 * fixed + 0.3 * moved).astype(np.float32)
    kept = np.random.default_rng(seed).random((1, 300)) > 0.3
    table = joint_counts(fixed[0], moved[0], kept[0], BINS)
    p = table / table.sum()
    expected = (entropy(p.sum(1)) + entropy(p.sum(0))) / entropy(p.ravel())
    inside = kept.astype(np.float32)
    assert value("mi", moved, fixed, inside) == pytest.approx(mutual_information(table), abs=1e-6)
    assert value("nmi", moved, fixed, inside) == pytest.approx(expected, abs=1e-6)
    assert 1 < expected < 2


def test_correlation_is_pearsons_and_blind_to_gain_and_offset():
    fixed, moved = noise(channels=2), noise(channels=2, seed=1) + noise(channels=2)
    expected = sum(pearsonr(fixed[c], moved[c]).statistic for c in range(2))
    assert value("ncc", moved, fixed) == pytest.approx(expected, abs=1e-6)
    assert value("ncc", 3 * moved + 40, fixed) == pytest.approx(expected, abs=1e-5)
    assert value("ncc", -fixed, fixed) == pytest.approx(-2, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1e-6, 1.0, 1e6])
def test_correlation_does_not_depend_on_the_unit_of_the_values(unit):
    fixed, moved = noise(), noise(seed=1) + noise()
    expected = pearsonr(fixed[0], moved[0]).statistic
    scaled = (unit * moved).astype(np.float32)
    assert value("ncc", scaled, (unit * fixed).astype(np.float32)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e6])
def test_correlation_with_a_flat_image_is_zero_and_its_slope_is_finite(level):
    fixed = noise()
    moved = np.full((1, 1, 300), level, np.float32)
    score, slope = evaluated("ncc", moved, np.ones((1, 300), np.float32), fixed)
    assert abs(float(score[0])) < 1e-6 and np.isfinite(slope).all()


def test_squared_difference_is_its_closed_form():
    fixed = noise(channels=3)
    assert value("ssd", fixed, fixed) == 0
    assert value("ssd", fixed + np.array([[1], [2], [3]], np.float32), fixed) == pytest.approx(-14, rel=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_points_outside_count_nothing(name):
    fixed, moved = noise(channels=2), noise(channels=2, seed=1)
    weights = (np.arange(300) % 3 > 0).astype(np.float32)[None]
    kept = weights[0] > 0
    spoilt = np.where(kept, moved, np.float32(1e4))
    assert value(name, spoilt, fixed, weights) == pytest.approx(value(name, moved[:, kept], fixed[:, kept]), abs=1e-6)
    _, slope = evaluated(name, spoilt[:, None], weights, fixed)
    assert not slope[:-1, 0][:, ~kept].any() and slope[:-1, 0][:, kept].any()


@pytest.mark.parametrize("name", TERMS)
def test_a_weight_is_how_often_a_point_counts(name):
    fixed, moved = noise(channels=2), noise(channels=2, seed=1)
    often = np.random.default_rng(2).integers(0, 4, 300)
    repeated = value(name, np.repeat(moved, often, 1), np.repeat(fixed, often, 1))
    assert value(name, moved, fixed, often[None].astype(np.float32)) == pytest.approx(repeated, abs=1e-6)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_derivatives_are_finite_differences(name, channels):
    count = 40
    fixed, moved = noise(count, channels), noise(count, channels, 1)
    moved = (np.floor(moved) + np.clip(moved - np.floor(moved), 0.05, 0.95)).astype(np.float32)
    weights = ((1 + np.arange(count) % 4) / 4).astype(np.float32)[None]
    _, slope = evaluated(name, moved[:, None], weights, fixed)
    assert slope.shape == (channels + 1, 1, count) and slope.dtype == np.float32
    step = np.float32(2**-8)

    def difference(row: int, n: int) -> float:
        ends = []
        for sign in (1, -1):
            rows = np.concatenate([moved, weights])
            rows[row, n] += sign * step
            ends.append(value(name, rows[:-1], fixed, rows[-1:]))
        return (ends[0] - ends[1]) / (2 * float(step))

    for row in range(channels + 1):
        ours, expected = slope[row, 0], [difference(row, n) for n in range(count)]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-2 * float(np.abs(ours).max()))


@pytest.mark.parametrize("name", TERMS)
def test_poses_of_a_batch_do_not_touch_each_other(name):
    fixed = noise(channels=2)
    batch = np.stack([noise(channels=2, seed=s) for s in range(7)], 1)
    weights = (np.random.default_rng(0).random((7, 300)) > 0.2).astype(np.float32)
    together, slopes = evaluated(name, batch, weights, fixed)
    for b in range(7):
        rows = np.ascontiguousarray(batch[:, b : b + 1])
        alone, slope = evaluated(name, rows, weights[b : b + 1], fixed)
        assert alone[0] == together[b]
        np.testing.assert_array_equal(slope[:, 0], slopes[:, b])


@pytest.mark.parametrize("name", TERMS)
def test_nothing_inside_is_finite(name):
    fixed = noise()
    scores, slopes = evaluated(name, fixed[None], np.zeros((1, 300), np.float32), fixed)
    assert np.isfinite(scores).all() and not slopes[:-1].any()


@pytest.mark.parametrize(("normalised", "unrelated"), [(False, 0.0), (True, 1.0)])
def test_slopes_of_tables_are_finite_differences_along_tables_that_sum_to_one(normalised, unrelated):
    def of(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return tuple(row[0] for row in inform_tables(np.stack([table, table.T]), normalised))

    rng = np.random.default_rng(3)
    table, direction = rng.uniform(0.1, 1, (BINS, BINS)), rng.normal(size=(BINS, BINS))
    table, direction = table / table.sum(), direction - direction.mean()
    score, slope = of(table)
    step = 1e-6
    expected = (of(table + step * direction)[0] - of(table - step * direction)[0]) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(float(expected), rel=1e-5)
    assert score > unrelated
    assert of(np.outer(table.sum(1), table.sum(0)))[0] == pytest.approx(unrelated, abs=1e-12)


def test_unrelated_values_are_what_images_without_relation_score():
    fixed = noise(4000, 2)
    samples = dataclasses.replace(samples_of(fixed), unrelated_difference=lambda: 2.5)
    assert {name: term.unrelated(samples) for name, term in TERMS.items()} == {
        "mi": 0.0,
        "nmi": 2.0,
        "ncc": 0.0,
        "ssd": -2.5,
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_information_is_that_of_normal_values(channels):
    samples = dataclasses.replace(samples_of(noise(10, channels)), unrelated_difference=lambda: 2.0)

    def told(name: str, *values: float) -> np.ndarray:
        return TERMS[name].information(np.array(values), samples)

    rng = np.random.default_rng(0)
    x = rng.normal(size=100_000)
    y = 0.8 * x + 0.6 * rng.normal(size=len(x))
    cells = np.histogram2d(x, y, 64)[0] / len(x)
    assert told("ncc", 0.8 * channels)[0] / channels == pytest.approx(mutual_information(cells), rel=0.05)
    np.testing.assert_allclose(told("ncc", -0.5 * channels, 0.0), [-told("ncc", 0.5 * channels)[0], 0])
    # Entropies of normal values: half the logarithm of the variance, and a constant.
    np.testing.assert_allclose(
        told("ssd", -0.5, -2.0, -8.0),
        norm(0, 2**0.5).entropy() - norm(0, [0.5**0.5, 2**0.5, 8**0.5]).entropy(),
        atol=1e-12,
    )
    np.testing.assert_array_equal(told("mi", 0.3), [0.3])
    np.testing.assert_allclose(told("nmi", channels + 0.25), [0.25])


@pytest.mark.parametrize("name", ["ncc", "ssd"])
def test_information_of_equal_images_is_finite_and_the_most(name):
    samples = dataclasses.replace(samples_of(noise(10)), unrelated_difference=lambda: 2.0)
    best = {"ncc": [1.0, 0.9], "ssd": [-0.0, -0.2]}[name]
    equal, near = TERMS[name].information(np.array(best), samples)
    assert near < equal < np.log(BINS) + 1
