"""Displacement fields as NIfTI: intent 1007 (vector) means LPS vectors to ITK, ANTs and Slicer, 1006 RAS ones."""

from __future__ import annotations

import pathlib

import nibabel
import numpy as np
import torch

from medmi.frames import flip_points
from medmi.grid import Grid
from medmi.io.matrix_files import Grids
from medmi.io.nifti import affine_of, read_stored
from medmi.spatial import DisplacementFieldTransform, SpatialTransform
from medmi.validation import InputError

LPS_VECTORS = 1007
RAS_VECTORS = 1006


def read_field(file: pathlib.Path, grids: Grids) -> SpatialTransform:
    """A displacement field with its own grid; grids play no part."""
    header, shape, stored = read_stored(file)
    intent = int(header["intent_code"])
    d = shape[4] if len(shape) == 5 else 0
    if intent not in (LPS_VECTORS, RAS_VECTORS) or d not in (2, 3) or shape[3] != 1 or (d == 2 and shape[2] != 1):
        raise InputError(
            f"{file}: is no displacement field: its size is {shape} and its intent {intent}; (i, j, k, 1, 3) and "
            f"intent {LPS_VECTORS} (LPS) or {RAS_VECTORS} (RAS) are asked"
        )
    field = torch.from_numpy(stored.astype(np.float64).reshape((*shape[:d], d), order="F"))
    grid = Grid(shape[:d], affine_of(file, header, shape[:3]))
    return DisplacementFieldTransform(grid, flip_points(field) if intent == LPS_VECTORS else field)


def write_field(transform: SpatialTransform, path: pathlib.Path, grids: Grids) -> None:
    """LPS vectors in float64 on the fixed grid, or on a field's own where none is given."""
    if grids.fixed is not None:
        transform = DisplacementFieldTransform.sampled(transform, grids.fixed)
    if not isinstance(transform, DisplacementFieldTransform):
        raise InputError("fixed_grid: a displacement field needs a grid to be sampled on; pass the fixed image's")
    d = transform.spatial_dims
    vectors = flip_points(transform.displacement.cpu()).numpy()
    affine = np.eye(4)
    affine[np.ix_([*range(d), 3], [*range(d), 3])] = transform.grid.affine.numpy()
    nifti = nibabel.Nifti1Image(vectors.reshape(*transform.grid.shape, *(1,) * (4 - d), d), affine)
    nifti.header["intent_code"] = LPS_VECTORS
    nifti.header.set_xyzt_units("mm")
    nifti.set_sform(affine, 1)
    nibabel.save(nifti, path)
