"""Linear transforms: translation, rigid, similarity, affine and, in 2D, homography, as exponentials of one generator table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medmi.frames import flip_matrix
from medmi.grid import Grid, apply_affine
from medmi.spatial.base import SpatialTransform
from medmi.spatial.field import DisplacementFieldTransform
from medmi.spatial.generators import FAMILIES, generators
from medmi.spatial.matrix_exp import matrix_exp
from medmi.validation import InputError, choose

if TYPE_CHECKING:
    import SimpleITK as sitk


def about(centre: torch.Tensor) -> torch.Tensor:
    """The homogeneous matrix ``(d + 1, d + 1)`` that moves the origin to ``centre``."""
    matrix = torch.eye(len(centre) + 1, dtype=torch.float64, device=centre.device)
    matrix[:-1, -1] = centre.double()
    return matrix


def linear_matrix(
    parameters: torch.Tensor, family: str, spatial_dims: int, centre: torch.Tensor | None = None
) -> torch.Tensor:
    """Matrices of a family: ``C exp(sum_i p_i G_i) C^-1`` with C the shift to ``centre``.

    Args:
        parameters: ``(..., t)``, in the order and units of :func:`medmi.spatial.generators.generators`.
        family: a name of ``FAMILIES``.
        spatial_dims: 2 or 3.
        centre: world point ``(d,)`` in mm that zero translation keeps in place; the origin by default.

    Returns:
        float64 ``(..., d + 1, d + 1)``, fixed world to moving world; differentiable in ``parameters``.
    """
    basis = generators(family, spatial_dims).to(parameters.device)
    if parameters.shape[-1] != len(basis):
        raise InputError(
            f"parameters: {family} in {spatial_dims}D has {len(basis)} of them, got {parameters.shape[-1]}"
        )
    matrix = matrix_exp(torch.einsum("...t,tij->...ij", parameters.double(), basis))
    if centre is None:
        return matrix
    shift = about(centre)
    return shift @ matrix @ about(-centre)


def apply_projective(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """``M [x; 1]`` divided by its last entry, for points ``(..., d)`` and one matrix ``(d + 1, d + 1)``."""
    dtype = torch.promote_types(matrix.dtype, points.dtype)
    m, x = matrix.to(dtype=dtype, device=points.device), points.to(dtype)
    return apply_affine(m, x) / (x @ m[-1, :-1] + m[-1, -1]).unsqueeze(-1)


class LinearTransform(SpatialTransform):
    """A world matrix ``(d + 1, d + 1)`` of a named family, fixed world to moving world, RAS+ mm.

    Args:
        matrix: finite and invertible, float64.
        family: ``translation``, ``rigid``, ``similarity``, ``affine`` or, in 2D, ``homography``.
        inverse_matrix: its inverse where it is known exactly, as ``exp(-p)`` is.

    >>> t = LinearTransform.from_parameters(torch.tensor([0.0, 0.0, torch.pi / 2]), "rigid")
    >>> t.points(torch.tensor([[2.0, 0.0]])).round(decimals=6).abs().tolist()
    [[0.0, 2.0]]
    """

    def __init__(
        self, matrix: torch.Tensor, family: str = "affine", inverse_matrix: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        choose(family, FAMILIES, "family")
        matrix = torch.as_tensor(matrix, dtype=torch.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] not in (3, 4):
            raise InputError(f"LinearTransform: matrix has shape {tuple(matrix.shape)}; (3, 3) or (4, 4) is asked")
        if not bool(torch.isfinite(matrix).all()) or float(torch.linalg.det(matrix).abs()) < 1e-12:
            raise InputError("LinearTransform: matrix is singular or not finite")
        if len(matrix) - 1 not in FAMILIES[family].dims:
            raise InputError(f"LinearTransform: {family!r} does not exist in {len(matrix) - 1}D; choose another family")
        last = torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)[-1]
        if family != "homography" and not torch.allclose(matrix[-1], last, rtol=0, atol=1e-9):
            raise InputError(
                f"LinearTransform: last row {matrix[-1].tolist()} is that of a homography, not of {family!r}"
            )
        self.family = family
        self.sampled_in_itk = family == "homography"
        self.register_buffer("matrix", matrix)
        self.register_buffer("inverse_matrix", torch.linalg.inv(matrix) if inverse_matrix is None else inverse_matrix)
        self.matrix: torch.Tensor
        self.inverse_matrix: torch.Tensor

    @classmethod
    def from_parameters(
        cls, parameters: torch.Tensor, family: str, centre: torch.Tensor | None = None
    ) -> LinearTransform:
        """``exp`` of the parameters ``(t,)`` about ``centre``; its inverse is ``exp`` of their negative."""
        counts = {len(generators(family, d)): d for d in (2, 3) if family != "homography" or d == 2}
        spatial_dims = counts.get(parameters.shape[-1])
        if spatial_dims is None:
            raise InputError(
                f"parameters: {family} has {sorted(counts)} of them in 2D and 3D, got {parameters.shape[-1]}"
            )
        there, back = (linear_matrix(sign * parameters, family, spatial_dims, centre) for sign in (1, -1))
        return cls(there, family, back)

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return self.matrix.shape[-1] - 1

    def points(self, x: torch.Tensor) -> torch.Tensor:
        """Moving world points of fixed world points ``(..., d)``, in mm."""
        return apply_projective(self.matrix, x) if self.family == "homography" else apply_affine(self.matrix, x)

    def inverse(self) -> LinearTransform:
        """The same family with both matrices exchanged."""
        return LinearTransform(self.inverse_matrix, self.family, self.matrix)

    def folded(self, other: SpatialTransform) -> SpatialTransform | None:
        """The product of two matrices, of the larger family."""
        if not isinstance(other, LinearTransform):
            return None
        family = max(self.family, other.family, key=list(FAMILIES).index)
        return LinearTransform(self.matrix @ other.matrix, family, other.inverse_matrix @ self.inverse_matrix)

    def to_sitk(self, grid: Grid | None = None) -> sitk.Transform:
        """The ITK class of the family; a homography has none and becomes a displacement field on ``grid``."""
        if self.family == "homography":
            if grid is None:
                raise InputError("to_sitk: ITK has no homography; pass the fixed grid to get a displacement field")
            return DisplacementFieldTransform.sampled(self, grid).to_sitk()
        return itk_linear(flip_matrix(self.matrix.cpu()), self.family)


# SimpleITK's class and what it is made with.
ITK_CLASSES: dict[tuple[str, int], tuple[str, tuple[int, ...]]] = {
    ("rigid", 2): ("Euler2DTransform", ()),
    ("rigid", 3): ("VersorRigid3DTransform", ()),
    ("similarity", 2): ("Similarity2DTransform", ()),
    ("similarity", 3): ("Similarity3DTransform", ()),
    ("affine", 2): ("AffineTransform", (2,)),
    ("affine", 3): ("AffineTransform", (3,)),
}


def itk_linear(lps: torch.Tensor, family: str) -> sitk.Transform:
    """The ITK transform of an LPS matrix ``(d + 1, d + 1)``."""
    import SimpleITK as sitk

    spatial_dims = lps.shape[-1] - 1
    offset = lps[:-1, -1].tolist()
    if family == "translation":
        return sitk.TranslationTransform(spatial_dims, offset)
    name, arguments = ITK_CLASSES[family, spatial_dims]
    transform = getattr(sitk, name)(*arguments)
    transform.SetMatrix(lps[:-1, :-1].flatten().tolist())
    transform.SetTranslation(offset)
    return transform
