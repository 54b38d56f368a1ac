"""Loops that draw points: NumPy's search, unravelled indices, neighbours by padding, chances in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.stats import kstest

from medmi.registration import drawing_cpu


def chances_of(numbers: np.ndarray, stream: int) -> np.ndarray:
    """The finaliser of MurmurHash3 in Python's integers."""
    found = []
    for number in numbers:
        h = (int(number) * 0x9E3779B9 + stream) % 2**32
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        found.append(((h ^ h >> 16) >> 8) / 2**24)
    return np.array(found)


def picked(cumulative: np.ndarray, spans: np.ndarray, sets: int, strips: int, stream: int):
    voxels, numbers = np.zeros((2, sets, strips), np.uint32)
    counts = np.empty(sets, np.int64)
    drawing_cpu.pick(cumulative, spans, strips, np.uint32(stream), voxels, numbers, counts)
    return [v[:n] for v, n in zip(voxels, counts)], [v[:n] for v, n in zip(numbers, counts)]


@pytest.mark.parametrize("stream", [0, 2**32 - 1])
@pytest.mark.parametrize("sets", [1, 4, 5])
def test_pick_is_a_search_in_the_cumulative_chances_dealt_out_to_sets(sets, stream):
    rng = np.random.default_rng(3)
    cumulative, strips = np.cumsum(rng.random(900) * (rng.random(900) > 0.3)), sets * 60
    voxels, numbers = picked(cumulative, np.array([[0, 900]]), sets, strips, stream)
    heights = (np.arange(strips) + chances_of(4 * np.arange(strips), stream)) * (cumulative[-1] / strips)
    expected = np.minimum(np.searchsorted(cumulative, heights, side="right"), 899)
    assert {len(v) for v in voxels} == {60}
    for some, places in zip(numbers, voxels):
        np.testing.assert_array_equal(places, expected[some])
        # One of every K neighbours.
        np.testing.assert_array_equal(some // sets, np.arange(60))
    np.testing.assert_array_equal(np.sort(np.concatenate(numbers)), np.arange(strips))
    turns = np.stack(numbers) % sets
    assert sets == 1 or max((turns == k).mean(1).max() for k in range(sets)) < 0.7


def test_spans_leave_what_is_drawn_within_them_as_it_is():
    rng = np.random.default_rng(9)
    cumulative = np.cumsum(rng.random(4 * 5 * 6))
    spans = np.sort(rng.integers(0, 7, (20, 2)), 1)
    inside = ((np.arange(6) >= spans[:, :1]) & (np.arange(6) < spans[:, 1:])).ravel()
    everything, seen = (picked(cumulative, some, 3, 300, 7) for some in (np.array([[0, 120]]), spans))
    assert 0 < inside.mean() < 1
    for (all_voxels, all_numbers), (voxels, numbers) in zip(zip(*everything), zip(*seen)):
        kept = inside[all_voxels]
        np.testing.assert_array_equal(voxels, all_voxels[kept])
        np.testing.assert_array_equal(numbers, all_numbers[kept])
    share = np.diff(cumulative, prepend=0)[inside].sum() / cumulative[-1]
    assert drawing_cpu.share_within(cumulative, spans) == pytest.approx(share)


def test_chances_are_spread_evenly_and_streams_have_nothing_in_common():
    streams = np.stack([drawing_cpu.chances(np.arange(8000, dtype=np.uint32), s) for s in (0, 1, 12345)])
    assert streams.min() >= 0 and streams.max() < 1
    for row in streams:
        assert kstest(row, "uniform").pvalue > 0.01
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.03
    assert np.abs(np.corrcoef(streams) - np.eye(3)).max() < 0.03


@pytest.mark.parametrize("shape", [(5, 7, 3), (9, 4, 1), (300, 211, 190)])
def test_scatter_places_points_in_their_voxels_and_on_the_lattice(shape):
    rng = np.random.default_rng(4)
    whole = int(np.prod(shape))
    voxels = np.append(rng.integers(0, whole, 5000), [0, whole - 1, shape[2] - 1]).astype(np.uint32)
    numbers, index = rng.permutation(len(voxels)).astype(np.uint32), np.empty((3, len(voxels)), np.float32)
    drawing_cpu.scatter(voxels, numbers, np.uint32(3), shape, index)
    places = np.stack([chances_of(4 * numbers + axis, 3) for axis in (1, 2, 3)])
    expected = np.stack(np.unravel_index(voxels, shape)) + places - 0.5
    np.testing.assert_allclose(index, np.clip(expected, 0, np.array(shape)[:, None] - 1), rtol=0, atol=3e-5)


@pytest.mark.parametrize("shape", [(5, 7, 6), (5, 7, 1)])
def test_interpolation_is_scipys(shape):
    rng = np.random.default_rng(7)
    volume = rng.normal(size=(2, *shape)).astype(np.float32)
    index = np.append(rng.random((3, 400)), np.eye(3, 4), 1) * (np.array(shape)[:, None] - 1)
    values = drawing_cpu.interpolate(volume, index.astype(np.float32))
    expected = [map_coordinates(channel.astype(np.float64), index, order=1) for channel in volume]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5)


def test_steepness_sums_the_steps_to_all_neighbours():
    channel = np.random.default_rng(5).normal(0, 1, (4, 5, 6)).astype(np.float32)
    out = np.full(channel.shape, 2, np.float32)
    drawing_cpu.steepen(channel, out)
    padded = np.pad(channel.astype(np.float64), 1, mode="edge")
    middle = padded[1:-1, 1:-1, 1:-1]
    steps = [np.roll(padded, sign, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for sign in (-1, 1)]
    np.testing.assert_allclose(out, 2 + sum(np.abs(s - middle) for s in steps), rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_chances_add_up_to_one_and_share_as_asked(masked, flat):
    rng = np.random.default_rng(6)
    steepness = np.zeros(500, np.float32) if flat else rng.gamma(1, 1, 500).astype(np.float32)
    mask = (rng.random(500) > 0.4).astype(np.uint8) if masked else np.zeros(0, np.uint8)
    steepness = steepness * mask if masked else steepness
    cumulative = np.empty(500)
    drawing_cpu.accumulate(steepness, 1.5, 0.3, mask, cumulative)
    even = mask / mask.sum() if masked else np.full(500, 1 / 500)
    capped = np.minimum(steepness, 1.5).astype(np.float64)
    expected = even if flat else 0.3 * capped / capped.sum() + 0.7 * even
    np.testing.assert_allclose(np.diff(cumulative, prepend=0), expected, rtol=0, atol=1e-12)
    assert cumulative[-1] == pytest.approx(1)


@pytest.mark.parametrize("perspective", [0.0, 0.004])
@pytest.mark.parametrize("shape", [(7, 9, 12), (11, 8, 1)])
def test_what_is_seen_of_a_row_is_where_its_voxels_land(shape, perspective):
    rng = np.random.default_rng(8)
    seen_shares = []
    for _ in range(20):
        matrix = np.append(np.eye(3) + 0.4 * rng.normal(size=(3, 3)), 6 * rng.normal(size=(3, 1)), 1)
        matrix = np.append(matrix, [[*(perspective * rng.normal(size=3)), 1]], 0)
        low, high = np.array([-1.5, -0.5, -2.0]), np.array(shape) - np.array([0.0, 0.5, -1.0])
        spans = np.empty((*shape[:2], 2), np.int64)
        drawing_cpu.see(matrix, low, high, shape, spans)
        index = np.stack([*np.indices(shape), np.ones(shape)])
        moved = np.einsum("ij,j...->i...", matrix, index)
        moved = moved[:3] / moved[3]
        inside = ((moved >= low[:, None, None, None]) & (moved <= high[:, None, None, None])).all(0)
        steps = np.arange(shape[2])
        np.testing.assert_array_equal((steps >= spans[..., :1]) & (steps < spans[..., 1:]), inside)
        seen_shares.append(inside.mean())
    assert min(seen_shares) < 0.1 and max(seen_shares) > 0.4


@pytest.mark.parametrize("slope", [1e-320, -1e-320, 0.0, np.nan, np.inf])
@pytest.mark.parametrize("start", [-3.0, 3.0, np.nan, -np.inf])
def test_no_map_leads_out_of_memory(slope, start):
    matrix, spans = np.eye(4), np.empty((4, 5, 2), np.int64)
    matrix[0, 2:] = slope, start
    drawing_cpu.see(matrix, np.zeros(3), np.full(3, 4.0), (4, 5, 6), spans)
    assert np.all((spans[..., 0] >= 0) & (spans[..., 0] <= spans[..., 1]) & (spans[..., 1] <= 6))
