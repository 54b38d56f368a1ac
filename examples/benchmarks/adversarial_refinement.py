"""The solver from given poses of simulated pairs: how far off it ends, by several terms and roles of the two images.

Words: the *anatomy* is the MR slice that the networks call fixed; a *cover* is 1 where an image shows something. Networks
see images whose edges go on outside; the solver is told by masks where they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from medmi import register
from medmi.engines.stopping import mapped
from medmi.grid import Grid

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Refinement:
    """A way to register.

    Attributes:
        name: for the table.
        similarity: None: the preset's.
        preset: of the solver.
        ultrasound_fixed: whether the ultrasound is the fixed image, and both come with their covers as masks.
    """

    name: str
    similarity: str | None = "mi"
    preset: str = "default"
    ultrasound_fixed: bool = False


PLAIN = Refinement("MI, default, anatomy fixed, no masks")
REFINEMENTS = (
    PLAIN,
    Refinement("MI, mr-us-coarse", preset="mr-us-coarse", ultrasound_fixed=True),
    Refinement("LC2, mr-us-coarse", None, "mr-us-coarse", ultrasound_fixed=True),
)


@dataclass(frozen=True)
class Refined:
    """Where the solver ended: errors in mm ``(N,)`` and similarities ``(N,)``."""

    errors: Tensor
    similarities: Tensor


def refined(
    grids: tuple[Grid, Grid], batches: Sequence[Batch], starts: Sequence[Tensor], way: Refinement, initial: str
) -> Refined:
    """The solver from poses ``(N, d + 1, d + 1)`` of each batch.

    Args:
        grids: the networks' and that of the sources.
        batches: with covers.
        starts: fixed world to source world.
        way: how to register.
        initial: of the solver: ``identity`` for the poses themselves, ``auto`` for a search around them.
    """
    errors, similarities = [], []
    for batch, poses in zip(batches, starts):
        for number, pose in enumerate(poses.double()):
            pair = {name: value[number] for name, value in batch.items()}
            matrix, similarity = _registered(pair, pose, grids, way, initial)
            errors.append(error_mm(pair, pose @ matrix, grids[0]))
            similarities.append(similarity)
    return Refined(torch.tensor(errors), torch.tensor(similarities))


def _registered(
    pair: Batch, pose: Tensor, grids: tuple[Grid, Grid], way: Refinement, initial: str
) -> tuple[Tensor, float]:
    """The matrix from the networks' grid to the image that is laid where the pose shows it, and the similarity."""
    # Laid there, the identity is the start.
    placed = torch.linalg.inv(pose) @ grids[1].affine
    anatomy, ultrasound = MetaTensor(pair["fixed"], affine=grids[0].affine), MetaTensor(pair["source"], affine=placed)
    if way.ultrasound_fixed:
        masks = {
            "fixed_mask": MetaTensor(pair["source_cover"], affine=placed),
            "moving_mask": MetaTensor(pair["fixed_cover"], affine=grids[0].affine),
        }
        result = register(ultrasound, anatomy, similarity=way.similarity, preset=way.preset, initial=initial, **masks)
    else:
        result = register(anatomy, ultrasound, similarity=way.similarity, preset=way.preset, initial=initial)
    if result.failed:
        return torch.eye(len(pose), dtype=torch.float64), result.similarity
    found = result.transform.inverse() if way.ultrasound_fixed else result.transform
    return found.matrix, result.similarity


def error_mm(pair: Batch, pose: Tensor, grid: Grid) -> float:
    """Mean distance between pose and truth over the anatomy's foreground, as the networks are measured."""
    points = grid.points().reshape(-1, grid.spatial_dims)
    points = torch.cat([points, torch.ones(len(points), 1)], 1).double()
    true = mapped(points, (pair["start"] @ pair["truth"])[None])
    away = (mapped(points, pose[None]) - true).norm(dim=-1)[0]
    fixed = pair["fixed"]
    return float(away[(fixed > fixed.mean()).flatten()].mean())
