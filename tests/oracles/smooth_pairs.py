"""Pairs of smooth images whose every value is a formula of the world point, so that truth needs no interpolation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from medmi.grid import Grid
from medmi.registration.problem import Problem, Side
from tests.oracles.grids import SHAPES, oblique_grid

Values = Callable[[np.ndarray], np.ndarray]


def blobs(spatial_dims: int, channels: int = 1, seed: int = 0) -> Values:
    """A few wide Gaussians about the origin: from points ``(n, d)`` to values ``(n, channels)``."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-9, 9, (channels, 7, spatial_dims))
    widths, heights = rng.uniform(3.5, 6.5, (channels, 7)), rng.uniform(0.4, 1.0, (channels, 7))

    def values(x: np.ndarray) -> np.ndarray:
        squared = ((x[:, None, None] - centres) ** 2).sum(-1)
        return (heights * np.exp(-squared / (2 * widths**2))).sum(-1)

    return values


def remapped(values: Values) -> Values:
    """The same shapes in another modality: neither monotone nor linear in the first one's values."""
    return lambda x: np.sin(2.2 * values(x)) + 0.3


def image_of(values: Values, grid: Grid, world_to_world: torch.Tensor | None = None) -> torch.Tensor:
    """``(C, *grid.shape)`` float32 of the formula at the grid's points after a projective matrix ``(d + 1, d + 1)``."""
    points = grid.points().reshape(-1, grid.spatial_dims).numpy()
    if world_to_world is not None:
        m = world_to_world.numpy()
        points = (points @ m[:-1, :-1].T + m[:-1, -1]) / (points @ m[-1, :-1] + m[-1, -1])[:, None]
    return torch.from_numpy(values(points).T.astype(np.float32)).reshape(-1, *grid.shape)


def smooth_problem(truth: torch.Tensor, channels: int = 1, other_modality: bool = False, shape: int = 0) -> Problem:
    """Unlike oblique grids, the moving image showing at ``truth(x)`` what the fixed one shows at x; no masks.

    Args:
        truth: ``(d + 1, d + 1)``, fixed world to moving world.
        channels: of both.
        other_modality: whether the moving values are remapped.
        shape: voxels that both grids have more along each axis than the usual test grid.
    """
    d = truth.shape[-1] - 1
    sizes = [tuple(n + shape for n in SHAPES[d]), tuple(n + shape + 2 for n in reversed(SHAPES[d]))]
    fixed, moving = oblique_grid(sizes[0], 0), oblique_grid(sizes[1], 1)
    values = blobs(d, channels)
    seen = remapped(values) if other_modality else values
    floating = image_of(seen, moving, torch.linalg.inv(truth))
    return Problem(Side(image_of(values, fixed), fixed, None), Side(floating, moving, None))
