"""Views: turns, shifts, mirror images and foreground points by their own definitions, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medmi.simulation.views import Share, Views
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, oblique_grid


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(views: Views, spatial_dims: int, count: int = 200, images: torch.Tensor | None = None) -> tuple:
    """Views of images on one grid by a network's of another shape, and both middles."""
    source, grid = oblique_grid(SHAPES[spatial_dims]), oblique_grid((9, 12, 17)[:spatial_dims], seed=1)
    images = torch.rand(count, 1, *source.shape, generator=seeded(3)) if images is None else images
    matrices = views.drawn(images, source, grid, seeded())
    return matrices, source, grid.centre


def at(matrices: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    return matrices[:, :-1, :-1] @ point + matrices[:, :-1, -1]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_without_settings_the_middles_meet(spatial_dims):
    matrices, source, middle = drawn(Views(), spatial_dims)
    torch.testing.assert_close(at(matrices, middle), source.centre.expand(200, -1))
    identity = torch.eye(spatial_dims, dtype=torch.float64).expand(200, -1, -1)
    torch.testing.assert_close(matrices[:, :-1, :-1], identity)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_turns_and_shifts_keep_within_their_bounds(spatial_dims):
    matrices, source, middle = drawn(Views(25, 7), spatial_dims)
    shifts = at(matrices, middle) - source.centre
    assert 6.5 < float(shifts.abs().max()) <= 7
    turns = matrices[:, :-1, :-1].numpy()
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-9)
    cosines = (np.trace(turns, axis1=1, axis2=2) - (spatial_dims - 2)) / 2
    degrees = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    assert 23 < degrees.max() <= 25 + 1e-6 and degrees.mean() == pytest.approx(12.5, abs=1.5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_each_axis_is_mirrored_half_of_the_time(spatial_dims):
    matrices, *_ = drawn(Views(flips=True), spatial_dims, 400)
    signs = matrices[:, :-1, :-1].diagonal(dim1=1, dim2=2)
    assert torch.equal(signs.abs(), torch.ones_like(signs))
    assert float(signs.mean(0).abs().max()) < 0.15


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_strains_turn_nothing_and_keep_within_their_bound(spatial_dims):
    matrices, source, middle = drawn(Views(strain=0.3), spatial_dims)
    torch.testing.assert_close(at(matrices, middle), source.centre.expand(200, -1))
    linear = matrices[:, :-1, :-1].numpy()
    np.testing.assert_allclose(linear, linear.transpose(0, 2, 1), atol=1e-12)
    # The logarithm of a stretch is symmetric; a parameter's generator has a norm of at most the square root of d.
    logarithms = np.log(np.linalg.eigvalsh(linear))
    lengths = np.linalg.norm(logarithms, axis=1)
    assert lengths.mean() > 0.15 and lengths.max() <= 0.3 * math.sqrt(spatial_dims) + 1e-9
    assert abs(logarithms.mean()) < 0.03


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_strains_change_no_other_draw(spatial_dims):
    plain, *_ = drawn(Views(20, 5, 0.5, True), spatial_dims)
    strained, *_, middle = drawn(Views(20, 5, 0.5, True, 0.3), spatial_dims)
    torch.testing.assert_close(at(strained, middle), at(plain, middle))
    rest = torch.linalg.solve(plain, strained)[:, :-1, :-1]
    torch.testing.assert_close(rest, rest.mT)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_foreground_sampling_looks_at_bright_voxels(spatial_dims):
    source = oblique_grid(SHAPES[spatial_dims])
    images = torch.zeros(300, 1, *source.shape)
    corner = (slice(None), 0, *[slice(2, 5)] * spatial_dims)
    images[corner] = 1
    matrices, source, middle = drawn(Views(foreground=1), spatial_dims, images=images)
    index = source.world_to_index(at(matrices, middle))
    assert torch.equal(index.round().long().unique(), torch.arange(2, 5))
    assert float((index - index.round()).abs().max()) < 1e-6
    counts = index.round().long()[:, 0].bincount()[2:]
    assert int(counts.min()) > 70
    halfway, *_ = drawn(Views(foreground=0.5), spatial_dims, images=images)
    torch.testing.assert_close(at(halfway, middle), (at(matrices, middle) + source.centre) / 2)


def test_a_constant_image_has_foreground_everywhere():
    source = oblique_grid(SHAPES[2])
    matrices, source, middle = drawn(Views(foreground=1), 2, images=torch.ones(300, 1, *source.shape))
    index = source.world_to_index(at(matrices, middle))
    assert bool((index.amin(0) < 2).all()) and bool((index.amax(0) > torch.tensor(source.shape) - 3).all())


def test_shares_make_up_the_whole():
    rows = torch.arange(8)
    assert torch.cat([Share(rank, 4).kept(rows) for rank in range(4)]).sort().values.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("name", "value"),
    [("degrees", -1.0), ("mm", math.nan), ("foreground", 1.1), ("foreground", -0.1), ("strain", -0.1)],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        Views(**{name: value})


def test_images_must_lie_on_their_grid():
    with pytest.raises(InputError, match="fixed: shape"):
        drawn(Views(), 2, images=torch.zeros(1, 1, 4, 4))
