"""HeadPhantom: an anatomical head that can be seen on any grid, in several contrasts, with known truth.

Words: a *contrast* is a row of mean values, one a tissue, with the noise of its kind of scanner; the *anatomy* is a
function of world points (RAS mm), so two grids show the same head wherever they meet. A 2D world is the axial plane
z = 8 mm of the 3D one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.simulation.anatomy import (
    FACE,
    FRONTAL_SINUS,
    HEAD,
    INNER,
    TISSUES,
    Layer,
    Part,
    cerebellum_layers,
    cerebrum_layers,
    head_layers,
    inner_table_distance,
    part_layers,
    skull_layers,
)
from medmi.simulation.contrasts import CONTRASTS
from medmi.simulation.painting import blocks, enclosing_box, multiply_gain, paint
from medmi.simulation.shapes import Ellipsoid, Points, Triple, Waves, turn_matrix
from medmi.threads import one_thread
from medmi.validation import InputError, choose

LESIONS = 6
LESION_BOX, LESION_CORNER = (90.0, 110.0, 50.0), (45.0, 70.0, 8.0)
WARP_MM = 2.2
VIEW_CENTRE = (0.0, -6.0, -6.0)
# Columns: the direction and spacing in mm of each tensor axis, before it is turned by a few degrees.
FIXED_AXES = ((1.2, 0.0, 0.0), (0.0, 1.2, 0.0), (0.0, 0.0, 1.2))
MOVING_AXES = ((0.0, 0.0, 2.0), (-1.2, 0.0, 0.0), (0.0, 1.5, 0.0))


@dataclass(frozen=True)
class HeadPhantom:
    """A head whose folds, shape and lesions are drawn from ``seed``.

    Args:
        seed: which head; the same seed gives the same anatomy on every grid.
        spatial_dims: 2 or 3; the 2D head is the axial plane z = 8 mm of the 3D head of the same seed.

    Raises:
        InputError: ``spatial_dims`` is neither 2 nor 3, or a grid of other dimension is passed to a method.

    >>> grid = Grid((4, 5, 6), torch.eye(4, dtype=torch.float64))
    >>> HeadPhantom(seed=1).labels(grid).shape
    torch.Size([4, 5, 6])
    """

    seed: int = 0
    spatial_dims: int = 3
    folds: Waves = field(init=False, repr=False)
    warp: tuple[Waves, ...] = field(init=False, repr=False)
    bone: Waves = field(init=False, repr=False)
    lesions: tuple[Part, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3):
            raise InputError(f"HeadPhantom: spatial_dims is {self.spatial_dims!r}; 2 or 3 is asked")
        generator = torch.Generator().manual_seed(self.seed)
        object.__setattr__(self, "folds", Waves.random(12, (21.0, 33.0), generator))
        object.__setattr__(self, "warp", tuple(Waves.random(3, (110.0, 190.0), generator) for _ in range(3)))
        object.__setattr__(self, "bone", Waves.random(3, (60.0, 110.0), generator))
        object.__setattr__(self, "lesions", self._draw_lesions(generator))

    def labels(self, grid: Grid) -> torch.Tensor:
        """The tissue at every voxel centre, int64 ``(*shape)``, an index into ``TISSUES``."""
        return self._paint(grid, torch.arange(len(TISSUES), dtype=torch.float32), edge=0.0).round().long()

    @one_thread()
    def image(
        self, grid: Grid, contrast: str = "t1", seed: int = 0, noise: float | None = None, bias: float | None = None
    ) -> MetaTensor:
        """The head as a scanner of the contrast's kind would show it, ``(1, *shape)`` float32 with the grid's affine.

        Args:
            grid: where to look; voxels share tissues by how near a surface is, over one voxel's mean width.
            contrast: ``t1``, ``t2``, ``pet`` or ``ultrasound``.
            seed: of noise and bias field, apart from the anatomy's.
            noise: relative to the contrast's brightest tissue: the standard deviation of each MR channel (Rician), of
                the counts of the brightest PET voxel (Poisson, before the point spread); for ultrasound the share of
                speckle, 1 where fully developed. None takes the contrast's own.
            bias: natural logarithm of the largest gain of the smooth multiplicative field, 0 for none. None takes the
                contrast's own.

        Raises:
            InputError: unknown contrast, a negative or non-finite noise or bias, or a grid of another dimension.
        """
        row = choose(contrast, CONTRASTS, "contrast")
        noise, bias = row.noise if noise is None else noise, row.bias if bias is None else bias
        for name, value in (("noise", noise), ("bias", bias)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"HeadPhantom.image: {name} is {value!r}; a finite number from 0 is asked")
        generator = torch.Generator().manual_seed(seed)
        voxel = float(grid.spacing.prod()) ** (1 / grid.spatial_dims)
        clean = self._paint(grid, torch.tensor(row.means, dtype=torch.float32), edge=voxel)
        multiply_gain(clean, grid, bias, generator)
        return MetaTensor(row.scan(clean, grid.spacing.tolist(), noise, generator)[None], affine=grid.affine.clone())

    @one_thread()
    def _paint(self, grid: Grid, values: torch.Tensor, edge: float) -> torch.Tensor:
        """Every layer's value laid over what lies under it; a surface fades over ``edge`` mm."""
        if grid.spatial_dims != self.spatial_dims:
            raise InputError(f"HeadPhantom: the grid is {grid.spatial_dims}D but spatial_dims is {self.spatial_dims}")
        canvas = values[0].expand(grid.shape).contiguous()
        for block, points in blocks(grid):
            paint(self._layers(points, edge), canvas[block], values, edge)
        return canvas

    def _layers(self, points: Points, edge: float) -> Iterator[Layer]:
        """Tissue and distance, outermost first, without those layers that cannot show at any of the points."""
        box = enclosing_box(points, 2.5 * WARP_MM)
        if HEAD.beyond(box, edge):
            return
        points = self._warped(points)
        inner_table = inner_table_distance(points, box, edge)
        if float(inner_table.max()) > -edge:
            yield from head_layers(points, inner_table, box, edge)
            yield from part_layers(FACE, points, box, edge)
            thickness = 7.0 + 1.2 * self.bone.value(points)
            yield from skull_layers(inner_table, thickness)
            yield from part_layers(FRONTAL_SINUS, points, box, edge)
        yield "csf", inner_table
        if float(inner_table.min()) < edge:
            yield from cerebrum_layers(points, inner_table, self.folds)
            yield from cerebellum_layers(points, box, edge)
        yield from part_layers(INNER + self.lesions, points, box, edge)

    def _warped(self, points: Points) -> Points:
        x, y, z = (p + WARP_MM * wave.value(points) for p, wave in zip(points, self.warp, strict=True))
        return x, y, z

    @one_thread()
    def _draw_lesions(self, generator: torch.Generator) -> tuple[Part, ...]:
        """The first candidates whose centres fall in white matter, as ellipsoids of 3 to 9 mm."""
        box = torch.tensor(LESION_BOX)[:, None]
        x, y, z = torch.rand((3, 400), generator=generator) * box - torch.tensor(LESION_CORNER)[:, None]
        sizes = 3.0 + 6.0 * torch.rand((400, 3), generator=generator).square()
        canvas = torch.zeros(400)
        paint(self._layers((x, y, z), 0.0), canvas, torch.arange(len(TISSUES), dtype=torch.float32), 0.0)
        chosen = (canvas == TISSUES.index("white")).nonzero()[:LESIONS, 0]
        rows = zip(torch.stack(self._warped((x, y, z)), 1)[chosen].tolist(), sizes[chosen].tolist(), strict=True)
        return tuple(Part("lesion", Ellipsoid((c[0], c[1], c[2]), (r[0], r[1], r[2]))) for c, r in rows)


def head_labels(grid: Grid, seed: int = 0) -> torch.Tensor:
    """Tissue at every voxel centre of a 2D or 3D grid, int64 ``(*shape)``, an index into ``TISSUES``."""
    return HeadPhantom(seed, grid.spatial_dims).labels(grid)


def demo_pair(seed: int = 0) -> tuple[MetaTensor, MetaTensor, torch.Tensor]:
    """Two scans of one head that lie apart: T1-like, and T2-like turned by 25 degrees and shifted by 25 mm.

    Returns:
        fixed ``(1, 160, 192, 160)`` of 1.2 mm, moving ``(1, 190, 140, 90)`` of 1.2 x 1.5 x 2 mm in another axis
        order, and the truth: the 4x4 RAS matrix that maps fixed world points to moving world points, float64.
    """
    phantom = HeadPhantom(seed)
    fixed_grid = centred_grid((160, 192, 160), FIXED_AXES, (6.0, -4.0, 8.0))
    moving_grid = centred_grid((190, 140, 90), MOVING_AXES, (-7.0, 5.0, 3.0))
    truth = displacement_matrix(25.0, 25.0, torch.Generator().manual_seed(seed))
    fixed = phantom.image(fixed_grid, "t1", seed=2 * seed)
    moving = phantom.image(moving_grid, "t2", seed=2 * seed + 1)
    return fixed, MetaTensor(moving.as_tensor(), affine=truth @ moving_grid.affine), truth


def centred_grid(shape: tuple[int, ...], axes: tuple[Triple, ...], turn: Triple) -> Grid:
    """A grid around the head whose axes are turned by a rotation vector in degrees."""
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.tensor(turn_matrix(turn), dtype=torch.float64).mT @ torch.tensor(axes, dtype=torch.float64)
    middle = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    affine[:3, 3] = torch.tensor(VIEW_CENTRE, dtype=torch.float64) - affine[:3, :3] @ middle
    return Grid(shape, affine)


def displacement_matrix(degrees: float, shift_mm: float, generator: torch.Generator) -> torch.Tensor:
    """A turn about a random axis through the view's centre, then a shift in a random direction, ``(4, 4)``."""
    drawn = torch.randn((2, 3), generator=generator, dtype=torch.float64)
    axis, direction = torch.nn.functional.normalize(drawn, dim=1)
    a, b, c = (degrees * axis).tolist()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.tensor(turn_matrix((a, b, c)), dtype=torch.float64).mT
    centre = torch.tensor(VIEW_CENTRE, dtype=torch.float64)
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift_mm * direction
    return matrix
