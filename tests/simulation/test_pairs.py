"""Training pairs: motions against SciPy, truth that restores, registered examples that no discriminator can tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits

from medmi.grid import Grid
from medmi.networks import ModernRegistrationDiscriminator, SpatialTransformer
from medmi.simulation import HeadPhantom
from medmi.simulation.pairs import Extent, TrainingPairs, random_motions
from medmi.simulation.threads import one_thread
from medmi.validation import InputError
from tests.oracles.grids import SHAPES, oblique_grid


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centre(grid: Grid) -> np.ndarray:
    return grid.affine[:-1, :-1].numpy() @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:-1, -1].numpy()


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_rigid_motions_keep_within_their_extent(spatial_dims):
    grid = oblique_grid(SHAPES[spatial_dims])
    motions = random_motions(500, "rigid", grid, Extent(15, 20), seeded())
    middle = centre(grid)
    degrees, shifts = [], []
    for matrix in motions.there.numpy():
        turn = np.eye(3)
        turn[:spatial_dims, :spatial_dims] = matrix[:-1, :-1]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        degrees.append(np.degrees(Rotation.from_matrix(turn).magnitude()))
        shifts.append(np.linalg.norm(matrix[:-1, :-1] @ middle + matrix[:-1, -1] - middle))
    assert 14 < max(degrees) <= 15 + 1e-9 and 19 < max(shifts) <= 20 + 1e-9
    assert np.mean(degrees) == pytest.approx(7.5, abs=0.5) and np.mean(shifts) == pytest.approx(10, abs=0.7)


@pytest.mark.parametrize(
    ("family", "spatial_dims"), [("translation", 3), ("similarity", 3), ("affine", 2), ("affine", 3), ("homography", 2)]
)
def test_inverses_are_inverses(family, spatial_dims):
    motions = random_motions(4, family, oblique_grid(SHAPES[spatial_dims]), Extent(), seeded())
    np.testing.assert_allclose(motions.back.numpy(), np.linalg.inv(motions.there.numpy()), atol=1e-9)
    assert float((motions.there[0] - motions.there[1]).abs().max()) > 0.1


def test_each_part_of_an_extent_moves_its_own():
    grid = Grid((9, 9), torch.diag(torch.tensor([1.0, 1.0, 1.0])))
    still = random_motions(3, "affine", grid, Extent(0, 0, 0), seeded()).there
    torch.testing.assert_close(still, torch.eye(3, dtype=torch.float64).expand(3, -1, -1))
    strained = random_motions(200, "affine", grid, Extent(0, 0, 0.1), seeded()).there
    torch.testing.assert_close(strained[:, :-1, :-1], strained[:, :-1, :-1].mT)
    stretch = torch.linalg.svdvals(strained[:, :-1, :-1]).log().abs().amax()
    assert 0.08 < float(stretch) <= 0.15
    tilted = random_motions(200, "homography", grid, Extent(0, 0, 0.1), seeded()).there
    assert 0.5 < float(tilted[:, -1, :-1].norm(dim=1).max()) / (0.1 / 80) < 2


def test_the_seed_decides():
    grid = oblique_grid(SHAPES[2])
    first, again, other = (random_motions(3, "rigid", grid, Extent(), seeded(s)).there for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def smooth(grid: Grid) -> torch.Tensor:
    """A function of world points, so that it may be seen on any grid."""
    x = grid.points() - torch.from_numpy(centre(grid))
    return torch.exp(-x.square().sum(-1) / 60)[None, None] * (1 + 0.2 * x[..., 0])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_truth_restores_the_image(spatial_dims):
    grid = oblique_grid(SHAPES[spatial_dims])
    transformer = SpatialTransformer(grid, grid)
    pairs = TrainingPairs(grid, transformer, extent=Extent(8, 2))
    moving, truth = pairs.unregistered(smooth(grid), seeded())
    restored = transformer(moving, truth)
    away = (moving - smooth(grid)).abs().mean()
    kept = restored != 0
    assert kept.double().mean() > 0.5
    assert float((restored - smooth(grid))[kept].abs().mean()) < 0.2 * float(away)


def test_moving_images_may_lie_on_a_wider_grid():
    grid = Grid((16, 16), torch.eye(3))
    wide = Grid((48, 48), [[1.0, 0, -16], [0, 1, -16], [0, 0, 1]])
    pairs = TrainingPairs(grid, SpatialTransformer(grid, grid), SpatialTransformer(grid, wide), extent=Extent(20, 4))
    moving, _ = pairs.unregistered(torch.ones(2, 1, 48, 48), seeded())
    assert moving.shape == (2, 1, 16, 16) and float(moving.min()) == pytest.approx(1)
    alike = TrainingPairs(grid, SpatialTransformer(grid, grid), extent=Extent(20, 4))
    assert float(alike.unregistered(torch.ones(2, 1, 16, 16), seeded())[0].min()) == 0


def test_a_registered_pair_is_resampled_and_masked_as_a_perfect_fake_is():
    """With one motion for both, the registered example and the perfectly aligned fake are the same bits."""
    grid = oblique_grid(SHAPES[2])
    transformer = SpatialTransformer(grid, grid)
    pairs = TrainingPairs(grid, transformer)
    image = torch.rand(3, 1, *grid.shape, generator=seeded(1))
    moving, truth = pairs.unregistered(image, seeded(2))
    assert torch.equal(pairs.registered(image, seeded(2)), transformer(moving, truth))


def heads(grid: Grid, count: int, first: int) -> torch.Tensor:
    """T1 and T2 slices ``(count, 2, *grid)`` in [0, 1]."""
    both = []
    for seed in range(first, first + count):
        phantom = HeadPhantom(seed, 2)
        both.append(torch.cat([phantom.image(grid, c, seed).as_tensor() for c in ("t1", "t2")]))
    images = torch.stack(both)
    return images / images.amax((2, 3), keepdim=True)


@pytest.fixture(scope="module")
def slices() -> tuple[Grid, torch.Tensor, torch.Tensor]:
    """A grid, and heads on it for training and for testing."""
    affine = torch.diag(torch.tensor([7.0, 7.0, 1.0]))
    affine[:2, 2] = -7 * 15.5
    grid = Grid((32, 32), affine)
    return grid, heads(grid, 32, 0), heads(grid, 32, 1000)


@one_thread()
def area_under_curve(grid: Grid, train: torch.Tensor, test: torch.Tensor, alike: bool) -> float:
    """How well a small discriminator learns to tell registered examples from perfectly aligned fakes."""
    source = seeded(5)
    pairs = TrainingPairs(grid, SpatialTransformer(grid, grid))
    critic = ModernRegistrationDiscriminator(2, widths=(8, 16, 32), cells=2)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(0.12 * torch.randn(parameter.shape, generator=source) * (parameter.ndim > 1))
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    labels = torch.cat([torch.ones(16), torch.zeros(16)])[:, None]

    def scores(images: torch.Tensor) -> torch.Tensor:
        images = images[torch.randperm(32, generator=source)]
        fixed, moving = images[:, :1], images[:, 1:]
        unregistered, truth = pairs.unregistered(moving[16:], source)
        fakes = pairs.resample(unregistered, truth)
        real = pairs.registered(moving[:16], source) if alike else moving[:16]
        return critic(fixed, torch.cat([real, fakes]))

    for _ in range(80):
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(scores(train), labels).backward()
        optimiser.step()
    with torch.no_grad():
        found = torch.cat([scores(test) for _ in range(30)])
    return roc_auc_score(labels.repeat(30, 1)[:, 0].numpy(), found[:, 0].numpy())


def test_a_discriminator_cannot_tell_perfect_fakes_from_registered_examples(slices):
    assert area_under_curve(*slices, alike=True) < 0.6


def test_it_can_where_registered_examples_were_not_resampled_alike(slices):
    assert area_under_curve(*slices, alike=False) > 0.9


@pytest.mark.parametrize("name", ["degrees", "mm", "strain"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_bad_extents_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        Extent(**{name: value})


def test_bad_input_is_refused():
    grid = oblique_grid(SHAPES[2])
    pairs = TrainingPairs(grid, SpatialTransformer(grid, grid))
    for method in (pairs.unregistered, pairs.registered):
        with pytest.raises(InputError, match="moving: shape"):
            method(torch.zeros(1, 19, 23), seeded())
    with pytest.raises(InputError, match="did you mean 'rigid'"):
        random_motions(1, "rigd", grid, Extent(), seeded())
