"""Loops that draw points: NumPy's search, unravelled indices, neighbours by padding, chances in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medmi.registration import drawing_cpu


@pytest.mark.parametrize("sets", [1, 4, 5])
def test_pick_is_a_search_in_the_cumulative_chances_dealt_out_to_sets(sets):
    rng = np.random.default_rng(3)
    cumulative = np.cumsum(rng.random(900) * (rng.random(900) > 0.3))
    uniform = rng.random(sets * 60, np.float32)
    voxels = np.empty((sets, 60), np.uint32)
    for columns in ((0, 23), (23, 60)):
        drawing_cpu.pick(cumulative, uniform, columns, voxels)
    heights = (np.arange(sets * 60) + uniform.astype(np.float64)) * (cumulative[-1] / (sets * 60))
    expected = np.minimum(np.searchsorted(cumulative, heights, side="right"), 899).reshape(60, sets)
    np.testing.assert_array_equal(np.sort(voxels.T, 1), expected)
    shares = [(column[:, None] == voxels.T).mean(0) for column in expected.T]
    assert sets == 1 or max(share.max() for share in shares) < 0.7


@pytest.mark.parametrize("shape", [(5, 7, 3), (9, 4, 1), (300, 211, 190)])
def test_scatter_places_points_in_their_voxels_and_on_the_lattice(shape):
    rng = np.random.default_rng(4)
    whole = int(np.prod(shape))
    voxels = np.append(rng.integers(0, whole, 5000), [0, whole - 1, shape[2] - 1]).astype(np.uint32)
    uniform, index = rng.random((3, len(voxels)), np.float32), np.empty((3, len(voxels)), np.float32)
    drawing_cpu.scatter(voxels, uniform, shape, index)
    expected = np.stack(np.unravel_index(voxels, shape)) + uniform - 0.5
    np.testing.assert_allclose(index, np.clip(expected, 0, np.array(shape)[:, None] - 1), rtol=0, atol=3e-5)


@pytest.mark.parametrize("shape", [(5, 7, 6), (5, 7, 1)])
def test_interpolation_is_scipys(shape):
    rng = np.random.default_rng(7)
    volume = rng.normal(size=(2, *shape)).astype(np.float32)
    index = np.append(rng.random((3, 400)), np.eye(3, 4), 1) * (np.array(shape)[:, None] - 1)
    values = np.empty((2, 404), np.float32)
    drawing_cpu.interpolate(volume, index.astype(np.float32), values)
    expected = [map_coordinates(channel.astype(np.float64), index, order=1) for channel in volume]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5)


def test_steepness_sums_the_clipped_steps_to_all_neighbours():
    channel = np.random.default_rng(5).normal(0, 1, (4, 5, 6)).astype(np.float32)
    out = np.full(channel.shape, 2, np.float32)
    drawing_cpu.steepen(channel, np.float32(-1), np.float32(1.5), out)
    padded = np.pad(np.clip(channel.astype(np.float64), -1, 1.5), 1, mode="edge")
    middle = padded[1:-1, 1:-1, 1:-1]
    steps = [np.roll(padded, sign, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for sign in (-1, 1)]
    np.testing.assert_allclose(out, 2 + sum(np.abs(s - middle) for s in steps) / 2.5, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_chances_add_up_to_one_and_share_as_asked(masked, flat):
    rng = np.random.default_rng(6)
    steepness = np.zeros(500, np.float32) if flat else rng.gamma(1, 1, 500).astype(np.float32)
    mask = (rng.random(500) > 0.4).astype(np.uint8) if masked else np.zeros(0, np.uint8)
    steepness = steepness * mask if masked else steepness
    cumulative = np.empty(500)
    drawing_cpu.accumulate(steepness, 1.5, 0.3, mask, np.zeros((0, 2), np.int64), cumulative)
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


def test_nothing_is_drawn_out_of_view():
    rng = np.random.default_rng(9)
    steepness = rng.gamma(1, 1, 4 * 5 * 6).astype(np.float32)
    spans = np.sort(rng.integers(0, 7, (20, 2)), 1)
    everywhere, seen = np.empty((2, 120))
    for some, out in ((np.zeros((0, 2), np.int64), everywhere), (spans, seen)):
        drawing_cpu.accumulate(steepness, 1.5, 0.3, np.zeros(0, np.uint8), some, out)
    steps = np.arange(6)
    inside = ((steps >= spans[:, :1]) & (steps < spans[:, 1:])).ravel()
    assert 0 < inside.mean() < 1
    expected = np.cumsum(np.where(inside, np.diff(everywhere, prepend=0), 0))
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-12)
