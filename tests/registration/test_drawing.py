"""Points drawn from levels: values, masks, shares, spans, streams; what the moving image sees of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medmi.registration.drawing import (
    MOST_SURPLUS,
    chances,
    draw,
    draw_sets,
    everywhere,
    in_view,
    surplus_of_points,
    surplus_of_spans,
)
from medmi.registration.levels import Volume, pyramid
from tests.registration.test_levels import NO_MASK, side_of


@pytest.mark.parametrize("d", [2, 3])
def test_drawn_values_are_those_at_the_drawn_points(d):
    side = side_of(d, 2)
    (volume,) = pyramid(side, [0.1])
    drawn = draw(volume, 700, np.random.default_rng(0))
    assert drawn.points.shape == drawn.centred(np.zeros(3)).shape == (3, 700) and drawn.values.shape == (2, 700)
    index = (drawn.points.T - volume.to_world[:3, 3]) @ np.linalg.inv(volume.to_world[:3, :3]).T
    top = np.array(volume.voxels.shape[1:]) - 1
    assert (index > -1e-5).all() and (index < top + 1e-5).all()
    assert d == 3 or not drawn.points[2].any()
    for c, channel in enumerate(volume.voxels):
        expected = map_coordinates(channel.astype(np.float64), index.T, order=1, mode="nearest")
        np.testing.assert_allclose(drawn.values[c], expected, rtol=0, atol=1e-4)
    assert (np.abs(index - np.round(index)).max(0)[:d] > 0.3).all()
    centre = np.array([1.5, -2, 0.25])
    np.testing.assert_allclose(drawn.centred(centre), drawn.points - centre[:, None], rtol=0, atol=2e-5)


def test_points_are_drawn_from_the_mask_alone():
    (volume,) = pyramid(side_of(3, masked=True), [0.1])
    drawn = draw(volume, 2000, np.random.default_rng(0))
    index = np.round((drawn.points.T - volume.to_world[:3, 3]) @ np.linalg.inv(volume.to_world[:3, :3]).T).astype(int)
    assert volume.mask[tuple(index.T)].mean() > 0.999


def flat_with_an_edge() -> Volume:
    voxels = np.zeros((1, 40, 20, 20), np.float32)
    voxels[0, 30:] = 1
    return Volume(voxels, NO_MASK, np.eye(4), np.zeros(1, np.float32), np.ones(1, np.float32))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_the_asked_share_goes_where_the_image_changes(share):
    drawn = draw(flat_with_an_edge(), 8000, np.random.default_rng(0), share)
    near = np.abs(drawn.points[0] - 29.5) < 1
    # The edge's two layers get the share and, like every other, a twentieth of the rest.
    assert near.mean() == pytest.approx(share + (1 - share) * 2 / 40, abs=0.01)


@pytest.mark.parametrize("masked", [False, True])
def test_a_flat_level_is_drawn_evenly(masked):
    flat = np.ones((1, 12, 12, 12), np.float32)
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[:6] = 1
    volume = Volume(flat, mask if masked else NO_MASK, np.eye(4), np.zeros(1, np.float32), np.ones(1, np.float32))
    drawn = draw(volume, 3000, np.random.default_rng(0))
    halves, _ = np.histogram(drawn.points[0], [0, 5.5, 11])
    assert halves.tolist() == pytest.approx([3000, 0] if masked else [1500, 1500], abs=60)


def test_the_same_generator_draws_the_same_points():
    volume = flat_with_an_edge()
    first, again, other = (draw(volume, 500, np.random.default_rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.points, again.points)
    assert (first.points != other.points).any()


@pytest.mark.parametrize("d", [2, 3])
def test_points_of_what_the_moving_image_sees_stand_for_their_share_of_the_chances(d):
    (fixed,), (moving,) = (pyramid(side_of(d, more=more), [0.1]) for more in (13, 2))
    centre, pose, margin = np.array([0.3, -0.2, 0.1]), np.eye(4), 2.5
    pose[:3, 3] = centre + np.array([6.0, -4.0, 3.0]) * (np.arange(3) < d)
    spans = in_view(fixed, moving, pose, centre, margin)
    index = np.indices(fixed.voxels.shape[1:]).reshape(3, -1)
    world = fixed.to_world @ np.append(index, np.ones((1, index.shape[1])), 0)
    world[:3] -= centre[:, None]
    there = (np.linalg.inv(moving.to_world) @ pose @ world)[:3]
    more = margin / np.linalg.norm(moving.to_world[:3, :3], axis=0)[:, None]
    last = np.array(moving.voxels.shape[1:])[:, None] - 1
    inside = ((there >= -more) & (there <= last + more)).all(0).reshape(fixed.voxels.shape[1:])
    steps = np.arange(inside.shape[-1])
    np.testing.assert_array_equal((steps >= spans[..., :1]) & (steps < spans[..., 1:]), inside)
    assert 0.1 < inside.mean() < 0.9
    steps = np.diff(chances(fixed, 0.4), prepend=0)
    (drawn,) = draw_sets(fixed, chances(fixed, 0.4), (1, 500), 0, spans)
    share = steps[inside.ravel()].sum()
    assert drawn.share == pytest.approx(share) and drawn.index.shape[1] == pytest.approx(500 * share, abs=15)
    assert draw(fixed, 500, np.random.default_rng(0)).share == pytest.approx(1)
    assert share * surplus_of_spans(chances(fixed, 0.4), spans) == pytest.approx(1, rel=0.2)
    assert inside[tuple(np.round(drawn.index).astype(int))].mean() > 0.9


def test_where_nothing_is_seen_everything_is_drawn():
    (fixed,), (moving,) = (pyramid(side_of(3, more=more), [0.1]) for more in (13, 2))
    pose = np.eye(4)
    pose[:3, 3] = 1e4
    cumulative, spans = chances(fixed, 0.4), in_view(fixed, moving, pose, np.zeros(3), 2.5)
    assert (spans[..., 0] == spans[..., 1]).all() and surplus_of_spans(cumulative, spans) == 1
    nothing, everything = (draw_sets(fixed, cumulative, (2, 50), 3, some) for some in (spans, everywhere(fixed)))
    for one, other in zip(nothing, everything):
        np.testing.assert_array_equal(one.index, other.index)
        assert one.share == other.share == 1


def test_next_to_nothing_asks_for_no_more_points():
    (fixed,) = pyramid(side_of(3, more=13), [0.1])
    cumulative, spans = chances(fixed, 0.4), np.zeros((*fixed.voxels.shape[1:3], 2), np.int64)
    spans[3, 4] = 5, 6
    assert surplus_of_spans(cumulative, spans) == 1
    (drawn,) = draw_sets(fixed, cumulative, (1, 200_000), 3, spans)
    assert drawn.share < 1e-3 and 0 < drawn.index.shape[1] < 300
    np.testing.assert_array_equal(np.unique(np.round(drawn.index), axis=1), [[3], [4], [5]])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("whole", [True, False])
def test_sets_are_drawn_alike_by_any_number_of_threads(whole, threads):
    volume = flat_with_an_edge()
    nx, ny, nz = volume.voxels.shape[1:]
    some = np.sort(np.random.default_rng(2).integers(0, nz + 1, (nx, ny, 2)), -1)
    cumulative, spans = chances(volume, 0.4), everywhere(volume) if whole else some
    alone = draw_sets(volume, cumulative, (5, 800), 11, spans)
    shared = draw_sets(volume, cumulative, (5, 800), 11, spans, threads)
    other = draw_sets(volume, cumulative, (5, 800), 12, spans)
    for one, same, unlike in zip(alone, shared, other):
        np.testing.assert_array_equal(one.index, same.index)
        np.testing.assert_array_equal(one.values, same.values)
        np.testing.assert_array_equal(one.heights, same.heights)
        assert one.index.shape != unlike.index.shape or (one.index != unlike.index).any()


def empty(shape: tuple[int, int, int], spacing: tuple[float, float, float], counting: int = 0) -> Volume:
    """A volume of which ``counting`` voxels count, or all for 0."""
    mask = (np.arange(np.prod(shape)) < counting).reshape(shape).astype(np.uint8) if counting else NO_MASK
    return Volume(np.zeros((1, *shape), np.float32), mask, np.diag([*spacing, 1.0]), np.zeros(1), np.ones(1))


LARGE, SMALL, PLANE = (
    empty(*of) for of in (((40, 40, 20), (2, 2, 2)), ((10, 10, 10), (1, 2, 4)), ((40, 20, 1), (1, 3, 1)))
)


@pytest.mark.parametrize(
    ("fixed", "moving", "surplus"),
    [
        (SMALL, LARGE, 1.0),
        (LARGE, LARGE, 1.0),
        (LARGE, empty((40, 40, 40), (1, 1, 2)), 2.0),
        (PLANE, empty((10, 20, 1), (1, 3, 1)), 4.0),
        (LARGE, empty((40, 40, 20), (2, 2, 2), 8000), 4.0),
        (empty((40, 40, 20), (2, 2, 2), 8000), LARGE, 1.0),
        (LARGE, SMALL, MOST_SURPLUS),
    ],
)
def test_more_points_are_drawn_where_the_moving_image_sees_a_part(fixed, moving, surplus):
    assert surplus_of_points(fixed, moving) == pytest.approx(surplus)
