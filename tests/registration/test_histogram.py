"""Compiled loops over the joint histogram against dense ones and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from medmi.registration import histogram_cpu
from tests.oracles.dense_histogram import joint_counts

BINS = 11


def histogram_input(count: int = 400):
    rng = np.random.default_rng(5)
    values = rng.normal(40, 25, (3, 2, count)).astype(np.float32)
    positions = rng.uniform(0, BINS - 1, (3, count)).astype(np.float32)
    positions[:, :3] = np.array([0, BINS - 1, 4])
    weights = np.clip(rng.normal(0.8, 0.5, (2, count)), 0, 1).astype(np.float32)
    low, scale = np.array([0, 5, -10], np.float32), ((BINS - 1) / np.array([80, 60, 99])).astype(np.float32)
    places = np.stack([rng.permutation(count) for _ in range(2)]).astype(np.uint32)
    return values, weights, places, positions, low, scale


def moving_positions(values: np.ndarray, low: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (values.astype(np.float64) - low[:, None, None]) * scale[:, None, None]


def test_histogram_is_the_dense_one():
    values, weights, places, positions, low, scale = histogram_input()
    tables, counts = np.full((3, 2, BINS, BINS), 7.0), np.array([400, 310])
    histogram_cpu.histogram(values, weights, places, counts, positions, low, scale, tables)
    moving = moving_positions(values, low, scale)
    assert (moving < 0).any() and (moving > BINS - 1).any()
    for c, b in np.ndindex(3, 2):
        here = slice(counts[b])
        expected = joint_counts(positions[c, places[b, here]], moving[c, b, here], weights[b, here], BINS)
        np.testing.assert_allclose(tables[c, b], expected, rtol=0, atol=2e-4)
    whole = [weights[b, : counts[b]].sum() for b in range(2)]
    np.testing.assert_allclose(tables.sum((-1, -2)), np.repeat([whole], 3, 0), rtol=1e-5)


def test_look_up_is_the_derivative_of_the_dense_tables():
    values, weights, places, positions, low, scale = histogram_input(60)
    slopes = np.random.default_rng(6).normal(size=(3, 2, BINS, BINS)).astype(np.float32)
    edges, counts = np.tile(np.arange(1, 60, 2, dtype=np.uint32), (2, 1)), np.array([[60, 50], [30, 21]])
    by_value, by_weight = np.full((3, 2, 60), 7, np.float32), np.full((2, 30), 7, np.float32)
    histogram_cpu.look_up(values, weights, places, edges, counts, positions, low, scale, slopes, by_value, by_weight)

    def score(c: int, b: int, n: int, value: float, weight: float) -> float:
        position = np.array([(value - float(low[c])) * float(scale[c])])
        row = positions[c, places[b, n] : places[b, n] + 1]
        return float((slopes[c, b] * joint_counts(row, position, np.array([weight]), BINS)).sum())

    moving = moving_positions(values, low, scale)
    for c, b, n in np.ndindex(*values.shape):
        if n >= counts[0, b] or abs(moving[c, b, n] - round(float(moving[c, b, n]))) < 1e-3:
            continue
        at, step, weight = float(values[c, b, n]), 1e-3, float(weights[b, n])
        expected = (score(c, b, n, at + step, weight) - score(c, b, n, at - step, weight)) / (2 * step)
        assert by_value[c, b, n] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    for b in range(2):
        for e, n in enumerate(edges[b, : counts[1, b]]):
            expected = sum(score(c, b, n, float(values[c, b, n]), 1.0) for c in range(3))
            assert by_weight[b, e] == pytest.approx(expected, rel=1e-3, abs=1e-4)
