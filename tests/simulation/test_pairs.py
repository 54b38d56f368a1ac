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
from medmi.networks import ModernRegistrationDiscriminator
from medmi.simulation import HeadPhantom
from medmi.simulation.pairs import Extent, TrainingPairs, random_motions
from medmi.simulation.views import Share, Views
from medmi.spatial.generators import generators
from medmi.threads import one_thread
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
    # Uniform within a ball of k dimensions: the mean radius is k / (k + 1) of the largest.
    turning = len(generators("rigid", spatial_dims)) - spatial_dims
    assert np.mean(degrees) == pytest.approx(15 * turning / (turning + 1), abs=0.5)
    assert np.mean(shifts) == pytest.approx(20 * spatial_dims / (spatial_dims + 1), abs=0.7)


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


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_truth_brings_starts_to_their_views(spatial_dims):
    grid = oblique_grid(SHAPES[spatial_dims])
    pairs = TrainingPairs(grid, grid, extent=Extent(8, 2), views=Views(20, 3, 0.5, True))
    poses = pairs.poses(torch.rand(3, 1, *grid.shape, generator=seeded()), seeded())
    np.testing.assert_allclose((poses.start @ poses.truth).numpy(), poses.view.numpy(), atol=1e-9)
    assert float((poses.start - poses.view).abs().max()) > 1


def test_sources_may_lie_on_a_wider_grid():
    grid = Grid((16, 16), torch.eye(3))
    wide = Grid((48, 48), [[1.0, 0, -16], [0, 1, -16], [0, 0, 1]])
    pairs = TrainingPairs(grid, wide, extent=Extent(0, 4))
    source = wide.points()[..., 0].float().repeat(2, 1, 1, 1)
    poses = pairs.poses(source, seeded())
    torch.testing.assert_close(pairs.shown(source, poses.view)[:, 0, :, 3], torch.arange(16.0).repeat(2, 1))
    shifts = poses.start[:, 0, 2]
    torch.testing.assert_close(
        pairs.shown(source, poses.start)[:, 0, :, 3], torch.arange(16.0) + shifts[:, None].float()
    )


def test_covered_voxels_see_covered_ones_alone():
    grid, wide = Grid((6, 6), torch.eye(3)), Grid((12, 12), [[1.0, 0, -3], [0, 1, -3], [0, 0, 1]])
    cover = torch.zeros(1, 1, 12, 12)
    cover[..., 3:, 4:] = 1
    pose = torch.eye(3, dtype=torch.float64)[None]
    pose[0, :2, 2] = torch.tensor([-1.5, 5.0])
    seen = TrainingPairs(grid, wide).covered(cover, pose)
    # Voxel i of the first axis lies between i + 1 and i + 2 of the source; voxel j of the second on j + 8, of which 11 is the rim.
    wanted = torch.zeros(1, 1, 6, 6)
    wanted[..., 2:, :3] = 1
    assert torch.equal(seen, wanted)


def test_one_rank_draws_its_part_of_all():
    grid = oblique_grid(SHAPES[2])
    pairs = TrainingPairs(grid, grid, views=Views(20, 3, 0.5, True))
    images = torch.rand(6, 1, *grid.shape, generator=seeded())
    whole = pairs.poses(images, seeded(1))
    for rank in (0, 1):
        part = pairs.poses(images[rank::2], seeded(1), Share(rank, 2))
        # The draws are the same; the last bit of a product of matrices may follow the number of its rows.
        for drawn, wanted in ((part.start, whole.start), (part.truth, whole.truth)):
            torch.testing.assert_close(drawn, wanted[rank::2], rtol=0, atol=1e-12)


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
    pairs = TrainingPairs(grid, grid, views=Views(15, 10, 0.2, True))
    critic = ModernRegistrationDiscriminator(2, widths=(8, 16, 32), cells=2)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(0.12 * torch.randn(parameter.shape, generator=source) * (parameter.ndim > 1))
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    labels = torch.cat([torch.ones(16), torch.zeros(16)])[:, None]

    def scores(images: torch.Tensor) -> torch.Tensor:
        images = images[torch.randperm(32, generator=source)]
        fixed, moving = images[:, :1], images[:, 1:]
        poses = pairs.poses(fixed, source)
        fakes = pairs.shown(moving[16:], (poses.start @ poses.truth)[16:])
        if alike:
            seen, real = pairs.shown(fixed, poses.view), pairs.shown(moving[:16], poses.view[:16])
        else:
            seen, real = torch.cat([fixed[:16], pairs.shown(fixed[16:], poses.view[16:])]), moving[:16]
        return critic(seen, torch.cat([real, fakes]))

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
    with pytest.raises(InputError, match="fixed: shape"):
        TrainingPairs(grid, grid).poses(torch.zeros(1, 19, 23), seeded())
    with pytest.raises(InputError, match="did you mean 'rigid'"):
        random_motions(1, "rigd", grid, Extent(), seeded())
