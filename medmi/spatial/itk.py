"""From SimpleITK's transforms to medmi's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from medmi.frames import flip_affine, flip_matrix, flip_points
from medmi.grid import Grid
from medmi.spatial.base import SpatialTransform, chain
from medmi.spatial.field import DisplacementFieldTransform, ItkTransform
from medmi.spatial.linear import LinearTransform

if TYPE_CHECKING:
    import SimpleITK as sitk

# Names of SimpleITK's kinds of transform.
FAMILY_OF_KIND = {
    "sitkIdentity": "translation",
    "sitkTranslation": "translation",
    "sitkEuler": "rigid",
    "sitkVersor": "rigid",
    "sitkVersorRigid": "rigid",
    "sitkSimilarity": "similarity",
}


def from_sitk(transform: sitk.Transform) -> SpatialTransform:
    """The same map in RAS: linear classes as a matrix, fields as fields, composites part by part, anything else wrapped."""
    import SimpleITK as sitk

    concrete = transform.Downcast()
    if isinstance(concrete, sitk.CompositeTransform):
        count = concrete.GetNumberOfTransforms()
        return chain([from_sitk(concrete.GetNthTransform(i)) for i in range(count)] or [_linear(concrete)])
    if isinstance(concrete, sitk.DisplacementFieldTransform):
        return _field(concrete)
    return _linear(concrete) if concrete.IsLinear() else ItkTransform(concrete)


def _linear(transform: sitk.Transform) -> LinearTransform:
    import SimpleITK as sitk

    d = transform.GetDimension()
    origin = np.array(transform.TransformPoint([0.0] * d))
    matrix = torch.eye(d + 1, dtype=torch.float64)
    columns = [np.array(transform.TransformPoint(row)) - origin for row in np.eye(d).tolist()]
    matrix[:-1, :-1] = torch.from_numpy(np.stack(columns, 1))
    matrix[:-1, -1] = torch.from_numpy(origin)
    families = {getattr(sitk, kind): family for kind, family in FAMILY_OF_KIND.items()}
    return LinearTransform(flip_matrix(matrix), families.get(transform.GetTransformEnum(), "affine"))


def _field(transform: sitk.DisplacementFieldTransform) -> DisplacementFieldTransform:
    import SimpleITK as sitk

    image = transform.GetDisplacementField()
    d = image.GetDimension()
    lps = torch.eye(d + 1, dtype=torch.float64)
    spacing = torch.tensor(image.GetSpacing(), dtype=torch.float64)
    lps[:-1, :-1] = torch.tensor(image.GetDirection(), dtype=torch.float64).reshape(d, d) * spacing
    lps[:-1, -1] = torch.tensor(image.GetOrigin(), dtype=torch.float64)
    vectors = torch.from_numpy(sitk.GetArrayFromImage(image)).double().permute(*reversed(range(d)), d)
    return DisplacementFieldTransform(Grid(image.GetSize(), flip_affine(lps)), flip_points(vectors))
