"""What every spatial transform owes: identity, inverse, composition in the stated order, and SimpleITK's own points.

SimpleITK is the oracle throughout: it evaluates the exported transform in LPS, in memory and from a file it wrote itself.
"""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.grid import Grid
from medmi.spatial import DisplacementFieldTransform, LinearTransform, SpatialTransform, from_sitk
from tests.oracles.grids import SHAPES, oblique_grid

# Per block of the generator table: mm, rad, log-scale, stretch, shear, 1/mm.
SIZES = {2: [9.0] * 2 + [0.4] + [0.2] * 3 + [3e-3] * 2, 3: [9.0] * 3 + [0.4] * 3 + [0.2] * 6}


def parameters(family: str, spatial_dims: int, seed: int = 0) -> torch.Tensor:
    """Parameters of a motion that no sign or order mistake survives: some mm, some 20 degrees, some 20% of stretch."""
    counts = {"translation": (2, 3), "rigid": (3, 6), "similarity": (4, 7), "affine": (6, 12), "homography": (8, 8)}
    sizes = torch.tensor(SIZES[spatial_dims][: counts[family][spatial_dims - 2]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return sizes * (2 * torch.rand(len(sizes), generator=generator, dtype=torch.float64) - 1)


def linear(family: str, spatial_dims: int, seed: int = 0) -> LinearTransform:
    """Some transform of a linear family about a centre away from the origin."""
    centre = torch.tensor([3.0, -5.0, 7.0], dtype=torch.float64)[:spatial_dims]
    return LinearTransform.from_parameters(parameters(family, spatial_dims, seed), family, centre)


def smooth_field(grid: Grid, seed: int = 0, size: float = 2.0) -> DisplacementFieldTransform:
    """A smooth displacement of at most ``size`` mm that vanishes at the rim of the grid and folds nowhere."""
    d = grid.spatial_dims
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(0, 1, n) for n in grid.shape], indexing="ij")
    window = np.prod([np.sin(np.pi * a) ** 2 for a in axes], axis=0)
    waves = [np.sin(sum(rng.uniform(1, 3) * a for a in axes) + rng.uniform(0, 6)) for _ in range(d)]
    return DisplacementFieldTransform(grid, torch.from_numpy(size * np.stack([window * w for w in waves], -1)))


def lps(point: torch.Tensor) -> list[float]:
    """The other frame's numbers of a RAS point (and the reverse)."""
    return [-float(point[0]), -float(point[1]), *map(float, point[2:])]


def itk_points(transform: sitk.Transform, points: torch.Tensor) -> np.ndarray:
    """SimpleITK's images of RAS points ``(n, d)``, back in RAS."""
    return np.array([lps(transform.TransformPoint(lps(p))) for p in points])


class TransformContract:
    """Inherit and say how a transform of the family is made.

    Attributes:
        spatial_dims: 2 or 3.
        inverse_error: mm that the inverse may miss by.
        suffix: of the file that SimpleITK writes.
        at_voxels: whether SimpleITK holds it as a field, exact at the voxel centres of ``grid`` alone.
    """

    spatial_dims: int
    inverse_error: float = 1e-9
    suffix: str = ".tfm"
    at_voxels: bool = False

    def make(self, seed: int) -> SpatialTransform:
        raise NotImplementedError

    def identity(self) -> SpatialTransform:
        raise NotImplementedError

    @property
    def grid(self) -> Grid:
        return oblique_grid(SHAPES[self.spatial_dims], 1)

    def points(self, count: int = 60) -> torch.Tensor:
        """World points inside the grid, and some outside."""
        generator = torch.Generator().manual_seed(5)
        unit = torch.rand(count, self.spatial_dims, generator=generator, dtype=torch.float64)
        return self.grid.index_to_world(unit * (torch.tensor(self.grid.shape) + 4) - 2)

    def points_for_itk(self) -> torch.Tensor:
        return self.grid.points().reshape(-1, self.spatial_dims)[::37] if self.at_voxels else self.points()

    def test_dimension(self) -> None:
        assert self.make(0).spatial_dims == self.spatial_dims

    def test_identity_leaves_points_in_place(self) -> None:
        torch.testing.assert_close(self.identity().points(self.points()), self.points(), rtol=0, atol=1e-12)

    def test_it_moves_points(self) -> None:
        inside = self.grid.points().reshape(-1, self.spatial_dims)
        assert float((self.make(0).points(inside) - inside).norm(dim=-1).max()) > 0.5

    @pytest.mark.parametrize("seed", [0, 1])
    def test_inverse_undoes_it_from_both_sides(self, seed: int) -> None:
        transform, x = self.make(seed), self.points()
        inverse = transform.inverse()
        torch.testing.assert_close(inverse.points(transform.points(x)), x, rtol=0, atol=self.inverse_error)
        torch.testing.assert_close(transform.points(inverse.points(x)), x, rtol=0, atol=self.inverse_error)

    def test_inverse_of_the_inverse_is_itself(self) -> None:
        transform, x = self.make(0), self.points()
        again = transform.inverse().inverse()
        torch.testing.assert_close(again.points(x), transform.points(x), rtol=0, atol=2 * self.inverse_error)

    def test_compose_applies_the_other_first(self) -> None:
        first, second, x = self.make(0), self.make(1), self.points()
        composed = second.compose(first).points(x)
        torch.testing.assert_close(composed, second.points(first.points(x)), rtol=0, atol=1e-9)
        assert float((composed - first.points(second.points(x))).norm(dim=-1).max()) > 1e-3 or self.commutes(
            first, second
        )

    def commutes(self, first: SpatialTransform, second: SpatialTransform) -> bool:
        """Whether the two are of a family where order means nothing."""
        return isinstance(first, LinearTransform) and first.family == "translation"

    def test_compose_with_a_field_on_either_side(self) -> None:
        transform, field, x = self.make(0), smooth_field(self.grid, 3), self.points()
        after, before = field.compose(transform), transform.compose(field)
        torch.testing.assert_close(after.points(x), field.points(transform.points(x)), rtol=0, atol=1e-12)
        torch.testing.assert_close(before.points(x), transform.points(field.points(x)), rtol=0, atol=1e-12)

    def test_simpleitk_maps_the_same_points(self) -> None:
        transform, x = self.make(0), self.points_for_itk()
        exported = transform.to_sitk(self.grid)
        np.testing.assert_allclose(itk_points(exported, x), transform.points(x), rtol=0, atol=1e-9)

    def test_from_sitk_brings_it_back(self) -> None:
        transform, x = self.make(1), self.points_for_itk()
        back = from_sitk(transform.to_sitk(self.grid))
        torch.testing.assert_close(back.points(x), transform.points(x), rtol=0, atol=1e-9)

    def test_a_file_that_simpleitk_wrote_holds_it(self, tmp_path: pathlib.Path) -> None:
        transform, x = self.make(1), self.points_for_itk()
        path = str(tmp_path / f"transform{self.suffix}")
        sitk.WriteTransform(transform.to_sitk(self.grid), path)
        read = sitk.ReadTransform(path)
        np.testing.assert_allclose(itk_points(read, x), transform.points(x), rtol=0, atol=1e-9)
        torch.testing.assert_close(from_sitk(read).points(x), transform.points(x), rtol=0, atol=1e-9)

    def test_points_keep_their_shape_and_float32_ones_are_widened(self) -> None:
        transform, x = self.make(0), self.points(24)
        stacked = transform(x.reshape(2, 3, 4, self.spatial_dims))
        torch.testing.assert_close(stacked.reshape(-1, self.spatial_dims), transform.points(x), rtol=0, atol=1e-12)
        single = transform.points(x.float())
        assert single.dtype == torch.float64
        torch.testing.assert_close(single, transform.points(x.float().double()), rtol=0, atol=1e-12)
        torch.testing.assert_close(transform.points(x[3]), transform.points(x)[3], rtol=0, atol=1e-12)

    def test_input_points_are_left_alone(self) -> None:
        x = self.points()
        self.make(0).points(x)
        torch.testing.assert_close(x, self.points(), rtol=0, atol=0)
