"""Generators: one table from transform family and dimension to a basis of its Lie algebra.

Words: a *family* is a group of linear maps of the world; a *generator* is a homogeneous matrix ``G``, one for each
parameter, so that ``T = exp(sum_i p_i G_i)`` runs through the group. Parameters come in one order, and each family
begins with those of the smaller ones:

| block | parameters in 2D | in 3D | unit |
|---|---|---|---|
| translation | along x, y | along x, y, z | mm |
| rotation, right-handed | in the xy plane | about x, y, z | rad |
| log-scale, all axes alike | 1 | 1 | - |
| stretch at constant volume | x against y | x against y, xy against z | - |
| shear, symmetric | xy | yz, zx, xy | - |
| perspective (homography) | 2 | - | 1/mm |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from medmi.validation import InputError, choose

_PLANES = {2: ((0, 1),), 3: ((1, 2), (2, 0), (0, 1))}

Block = Callable[[int], list[torch.Tensor]]


def _entries(spatial_dims: int, values: Mapping[tuple[int, int], float]) -> torch.Tensor:
    """A homogeneous ``(d + 1, d + 1)`` float64 matrix with the given entries, else zero."""
    matrix = torch.zeros(spatial_dims + 1, spatial_dims + 1, dtype=torch.float64)
    for place, value in values.items():
        matrix[place] = value
    return matrix


def _translations(d: int) -> list[torch.Tensor]:
    return [_entries(d, {(axis, d): 1.0}) for axis in range(d)]


def _rotations(d: int) -> list[torch.Tensor]:
    return [_entries(d, {(b, a): 1.0, (a, b): -1.0}) for a, b in _PLANES[d]]


def _scale(d: int) -> list[torch.Tensor]:
    return [_entries(d, {(axis, axis): 1.0 for axis in range(d)})]


def _stretches(d: int) -> list[torch.Tensor]:
    """Traceless diagonal matrices, orthogonal to each other and of a rotation's Frobenius norm."""
    rows = []
    for k in range(1, d):
        height = (2 / (k * (k + 1))) ** 0.5
        rows.append(_entries(d, {**{(axis, axis): height for axis in range(k)}, (k, k): -k * height}))
    return rows


def _shears(d: int) -> list[torch.Tensor]:
    return [_entries(d, {(a, b): 1.0, (b, a): 1.0}) for a, b in _PLANES[d]]


def _perspectives(d: int) -> list[torch.Tensor]:
    return [_entries(d, {(d, axis): 1.0}) for axis in range(d)]


@dataclass(frozen=True)
class Family:
    """A row of the table: its blocks of parameters, its dimensions, and whether its matrices keep determinant 1."""

    blocks: tuple[Block, ...]
    dims: tuple[int, ...] = (2, 3)
    unit_determinant: bool = False


_AFFINE = (_translations, _rotations, _scale, _stretches, _shears)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "translation": Family(_AFFINE[:1]),
        "rigid": Family(_AFFINE[:2]),
        "similarity": Family(_AFFINE[:3]),
        "affine": Family(_AFFINE),
        "homography": Family((*_AFFINE, _perspectives), dims=(2,), unit_determinant=True),
    }
)
"""The families by name, from the smallest group to the largest."""


def generators(family: str, spatial_dims: int) -> torch.Tensor:
    """Basis of the Lie algebra of a family, in the order of this module's table.

    A homography's matrices act by projective division, so their overall factor means nothing; its generators are the
    traceless ones of sl(3), whose exponentials have determinant 1. With the same parameters and no perspective they
    give the affine map.

    Args:
        family: a name of ``FAMILIES``: ``translation``, ``rigid``, ``similarity``, ``affine`` or ``homography`` (2D).
        spatial_dims: 2 or 3.

    Returns:
        ``(t, d + 1, d + 1)``, float64, a fresh tensor; ``t`` parameters: 2, 3, 4, 6, 8 in 2D and 3, 6, 7, 12 in 3D.

    Raises:
        InputError: unknown family, or one that does not exist in this dimension.

    >>> generators("rigid", 2).shape
    torch.Size([3, 3, 3])
    >>> generators("rigid", 2)[2].tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    row = choose(family, FAMILIES, "transform")
    if spatial_dims not in row.dims:
        known = [name for name, other in FAMILIES.items() if spatial_dims in other.dims]
        raise InputError(f"transform: {family!r} does not exist in {spatial_dims}D. One of: {', '.join(known)}")
    basis = torch.stack([matrix for block in row.blocks for matrix in block(spatial_dims)])
    if row.unit_determinant:
        trace = basis.diagonal(dim1=-2, dim2=-1).mean(-1)
        basis = basis - trace[:, None, None] * torch.eye(spatial_dims + 1, dtype=torch.float64)
    return basis
