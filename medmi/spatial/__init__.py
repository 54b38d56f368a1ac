"""Spatial transforms, resampling and pyramids; every transform maps fixed world points to moving world points (RAS+ mm)."""

from medmi.spatial.base import Chain, SpatialTransform, chain
from medmi.spatial.field import DisplacementFieldTransform, ItkTransform
from medmi.spatial.generators import FAMILIES, generators
from medmi.spatial.itk import from_sitk
from medmi.spatial.linear import LinearTransform, linear_matrix
from medmi.spatial.matrix_exp import matrix_exp
from medmi.spatial.resample import resample

__all__ = [
    "FAMILIES",
    "Chain",
    "DisplacementFieldTransform",
    "ItkTransform",
    "LinearTransform",
    "SpatialTransform",
    "chain",
    "from_sitk",
    "generators",
    "linear_matrix",
    "matrix_exp",
    "resample",
]
