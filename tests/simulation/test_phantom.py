"""The head: volumes, contrasts, one anatomy on any grid, determinism, refusals."""

from __future__ import annotations

import math

import pytest
import scipy.ndimage
import torch

import medmi.simulation.painting as painting
from medmi.grid import Grid
from medmi.simulation.anatomy import TISSUES
from medmi.simulation.contrasts import CONTRASTS
from medmi.simulation.phantom import HeadPhantom, centred_grid, demo_pair, head_labels
from medmi.validation import InputError

WHOLE = centred_grid((96, 120, 108), ((2.0, 0, 0), (0, 2.0, 0), (0, 0, 2.0)), (0.0, 0.0, 0.0))
OBLIQUE = Grid((19, 23, 29), [[3.1, 0.4, -0.3, -20], [-0.5, 4.2, 0.2, -60], [0.2, -0.3, 2.4, -25], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    return HeadPhantom().labels(WHOLE)


def millilitres(labels: torch.Tensor, tissue: str) -> float:
    return float((labels == TISSUES.index(tissue)).sum() * WHOLE.spacing.prod() / 1000)


@pytest.mark.parametrize(
    ("tissue", "low", "high"),
    [
        ("grey", 550, 800),
        ("white", 450, 750),
        ("csf", 200, 450),
        ("ventricle", 15, 45),
        ("deep", 12, 40),
        ("skull", 250, 600),
        ("eye", 8, 14.5),
        ("lesion", 0.5, 20),
        ("skin", 150, 350),
    ],
)
def test_volumes_are_those_of_an_adult(labels, tissue, low, high):
    assert low < millilitres(labels, tissue) < high


def test_the_tissues_are_nested(labels):
    """Skin meets no brain: going outwards from the brain one passes fluid and bone first."""
    brain = torch.isin(labels, torch.tensor([TISSUES.index(t) for t in ("grey", "white", "deep")]))
    grown = torch.from_numpy(scipy.ndimage.binary_dilation(brain.numpy(), iterations=1))
    outside = torch.isin(labels, torch.tensor([TISSUES.index(t) for t in ("air", "skin", "fat")]))
    assert not bool((grown & outside).any())


def test_the_cortex_is_folded(labels):
    """A ball of the brain's volume would show far less surface between fluid and cortex than the folded one does."""
    brain = torch.isin(
        labels, torch.tensor([TISSUES.index(t) for t in ("grey", "white", "deep", "ventricle", "lesion")])
    )
    faces = sum(int((brain.narrow(a, 1, n - 1) != brain.narrow(a, 0, n - 1)).sum()) for a, n in enumerate(brain.shape))
    radius = (3 * float(brain.sum()) / (4 * math.pi)) ** (1 / 3)
    assert faces > 2.5 * 6 * math.pi * radius**2


def test_left_is_not_right(labels):
    """The best mirror plane through the head still leaves a good part of the brain different."""
    inside = labels >= TISSUES.index("grey")
    for shift in range(-3, 4):
        mirrored = labels.flip(0).roll(shift, 0)
        assert float((mirrored != labels)[inside].float().mean()) > 0.25


def test_two_grids_show_one_anatomy():
    """The same world points by a grid of other origin, axis order and direction, cut into other blocks."""
    phantom = HeadPhantom(3)
    reindex = torch.tensor([[0, -1, 0, 18], [0, 0, 1, 4], [-1, 0, 0, 28], [0, 0, 0, 1]], dtype=torch.float64)
    other = Grid((29, 19, 19), OBLIQUE.affine @ reindex)
    here, there = phantom.labels(OBLIQUE), phantom.labels(other)
    index = torch.stack(torch.meshgrid(*map(torch.arange, other.shape), indexing="ij"), -1).double()
    i, j, k = (index @ reindex[:3, :3].T + reindex[:3, 3]).round().long().unbind(-1)
    assert float((here[i, j, k] != there).float().mean()) < 1e-3
    clean = [phantom.image(g, "t1", noise=0, bias=0).as_tensor()[0] for g in (OBLIQUE, other)]
    assert float((clean[0][i, j, k] - clean[1]).abs().max()) < 1.0


def test_the_blocks_leave_no_trace(monkeypatch):
    phantom = HeadPhantom(1)
    grid = centred_grid((60, 75, 68), ((3.2, 0, 0), (0, 3.2, 0), (0, 0, 3.2)), (8.0, 5.0, -20.0))
    expected = phantom.labels(grid), phantom.image(grid, "t2", noise=0, bias=0.2).as_tensor()
    monkeypatch.setattr(painting, "BLOCK", 200)
    assert torch.equal(phantom.labels(grid), expected[0])
    assert torch.allclose(phantom.image(grid, "t2", noise=0, bias=0.2).as_tensor(), expected[1], atol=1e-3)


@pytest.mark.parametrize(
    ("contrast", "order"),
    [
        ("t1", ("fat", "white", "grey", "csf", "air")),
        ("t2", ("csf", "grey", "white", "muscle", "skull")),
        ("pet", ("grey", "white", "muscle", "air")),
        ("ultrasound", ("skull", "skin", "white", "grey", "csf")),
    ],
)
def test_brightness_ranks_as_in_the_scanner(contrast, order):
    grid = centred_grid((80, 100, 90), ((2.4, 0, 0), (0, 2.4, 0), (0, 0, 2.4)), (0.0, 0.0, 0.0))
    phantom = HeadPhantom()
    image, labels = phantom.image(grid, contrast, seed=5).as_tensor()[0], phantom.labels(grid)
    means = [float(image[labels == TISSUES.index(tissue)].median()) for tissue in order]
    assert means == sorted(means, reverse=True)
    assert image.dtype == torch.float32 and bool(torch.isfinite(image).all()) and float(image.min()) >= 0


def test_noise_bias_and_seeds_do_what_they_say():
    phantom = HeadPhantom()
    clean = phantom.image(OBLIQUE, noise=0, bias=0).as_tensor()
    biased = phantom.image(OBLIQUE, noise=0, bias=0.4, seed=1).as_tensor()
    gain = (biased / clean)[clean > 0].log()
    assert float(gain.abs().max()) <= 0.4 + 1e-5 and float(gain.std()) > 0.02
    first, again, other = (phantom.image(OBLIQUE, seed=s).as_tensor() for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(phantom.labels(OBLIQUE), HeadPhantom(0).labels(OBLIQUE))
    assert not torch.equal(phantom.labels(OBLIQUE), HeadPhantom(1).labels(OBLIQUE))


def test_2d_is_the_axial_plane_of_the_3d_head():
    flat = Grid((70, 90), [[2.4, 0.3, -95], [-0.3, 2.4, -100], [0, 0, 1]])
    solid = Grid(
        (70, 90, 1), [[2.4, 0.3, 0, -95], [-0.3, 2.4, 0, -100], [0, 0, 5, painting.AXIAL_PLANE_MM], [0, 0, 0, 1]]
    )
    assert torch.equal(head_labels(flat, 2), head_labels(solid, 2)[..., 0])
    image = HeadPhantom(2, spatial_dims=2).image(flat, "t2")
    assert image.shape == (1, 70, 90) and Grid.of(image).same_as(flat)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_every_contrast_exists_in_2d(contrast):
    flat = Grid((60, 70), [[3.0, 0, -90], [0, 3.0, -105], [0, 0, 1]])
    assert float(HeadPhantom(spatial_dims=2).image(flat, contrast).std()) > 0


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="spatial_dims is 4"):
        HeadPhantom(spatial_dims=4)
    with pytest.raises(InputError, match="grid is 3D but spatial_dims is 2"):
        HeadPhantom(spatial_dims=2).labels(OBLIQUE)
    with pytest.raises(InputError, match=r"contrast: unknown value 't3'\. One of: t1, t2"):
        HeadPhantom().image(OBLIQUE, "t3")
    for option in ({"noise": -1.0}, {"bias": math.nan}, {"noise": math.inf}):
        with pytest.raises(InputError, match=f"{next(iter(option))} is"):
            HeadPhantom().image(OBLIQUE, **option)


def test_the_demo_pair_lies_apart_by_its_truth():
    fixed, moving, truth = demo_pair(1)
    rotation = truth[:3, :3]
    assert math.degrees(math.acos((float(rotation.trace()) - 1) / 2)) == pytest.approx(25.0)
    centre = torch.tensor([0.0, -6.0, -6.0, 1.0], dtype=torch.float64)
    assert float((truth @ centre - centre)[:3].norm()) == pytest.approx(25.0)
    grid, moving_grid = Grid.of(fixed), Grid.of(moving)
    assert not grid.same_as(moving_grid) and fixed.dtype == moving.dtype == torch.float32
    points = grid.points()[::4, ::4, ::4]
    bare = HeadPhantom(1).image(
        Grid(points.shape[:3], grid.affine @ torch.diag(torch.tensor([4.0, 4, 4, 1], dtype=torch.float64))), "t2"
    )
    for matrix, low, high in ((truth, 0.8, 1.0), (torch.eye(4, dtype=torch.float64), -1.0, 0.6)):
        where = moving_grid.world_to_index(points @ matrix[:3, :3].T + matrix[:3, 3])
        inside = ((where >= 0) & (where <= torch.tensor(moving_grid.shape) - 1)).all(-1)
        seen = scipy.ndimage.map_coordinates(moving[0].numpy(), where.movedim(-1, 0).numpy(), order=1)
        both = torch.stack((torch.from_numpy(seen)[inside], bare.as_tensor()[0][inside]))
        assert low < float(torch.corrcoef(both)[0, 1]) < high


def test_an_image_has_the_same_bits_at_any_number_of_threads():
    grid = Grid((40, 50, 60), torch.diag(torch.tensor([4.0, 4.0, 3.5, 1.0], dtype=torch.float64)))
    before = torch.get_num_threads()
    seen = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            seen.append(HeadPhantom().image(grid, "ultrasound").as_tensor())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*seen)
