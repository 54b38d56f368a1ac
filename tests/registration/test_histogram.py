"""Compiled loops over the joint histogram against dense ones and finite differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medmi.registration import histogram_cpu
from tests.contracts.kept import kept_of
from tests.oracles.dense_histogram import entropy, joint_counts

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


@pytest.mark.parametrize("normalised", [False, True])
def test_information_and_its_derivatives_are_those_of_the_dense_tables(normalised):
    values, weights, places, positions, low, scale = histogram_input(60)
    weights += np.float32(0.1)
    edges, counts = np.tile(np.arange(1, 60, 2, dtype=np.uint32), (2, 1)), np.array([[60, 50], [30, 21]])
    kept = dataclasses.replace(kept_of(values, weights), places=places, edges=edges, counts=counts)
    windows = positions, low, scale
    ours, by_value, by_weight = histogram_cpu.inform_points(kept, windows, BINS, normalised, derivative=True)
    alone, *nothing = histogram_cpu.inform_points(kept, windows, BINS, normalised, derivative=False)
    np.testing.assert_array_equal(alone, ours)
    assert nothing == [None, None] and by_value is not None and by_weight is not None

    def score(b: int, moved: np.ndarray, weight: np.ndarray) -> float:
        here, total = slice(counts[0, b]), 0.0
        for c in range(3):
            moving = (moved[c].astype(np.float64) - low[c]) * scale[c]
            table = joint_counts(positions[c, places[b, here]], moving[here], weight[here], BINS)
            p = table / table.sum()
            joint, margins = entropy(p.ravel()), entropy(p.sum(1)) + entropy(p.sum(0))
            total += margins / joint if normalised else margins - joint
        return total

    def difference(b: int, c: int | None, n: int, step: float) -> float:
        ends = []
        for sign in (1, -1):
            moved, weight = values[:, b].astype(np.float64), weights[b].astype(np.float64)
            (weight if c is None else moved[c])[n] += sign * step
            ends.append(score(b, moved, weight))
        return (ends[0] - ends[1]) / (2 * step)

    at = moving_positions(values, low, scale)
    for b in range(2):
        assert ours[b] == pytest.approx(score(b, values[:, b], weights[b]), abs=1e-5)
        for e, n in enumerate(edges[b, : counts[1, b]]):
            assert by_weight[b, e] == pytest.approx(difference(b, None, n, 1e-4), rel=1e-3, abs=1e-5)
    clamped = 0
    for c, b, n in np.ndindex(*values.shape):
        if n < counts[0, b] and abs(at[c, b, n] - round(float(at[c, b, n]))) > 5e-3:
            assert by_value[c, b, n] == pytest.approx(difference(b, c, n, 1e-2), rel=2e-2, abs=2e-5)
            clamped += not 0 < at[c, b, n] < BINS - 1
    assert clamped > 5
