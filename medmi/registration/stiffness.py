"""The price (a prior, or regularisation) of changing an image's size and shape: a pose stretches it as far as the images tell, no farther.

Along some of an affine's twelve parameters a pair may tell next to nothing: a limb's PET hardly changes where it is sheared along its
bone, noise stretches it by a tenth there, and coarse images agree better the smaller they are looked at. A price that is small beside what
images tell wherever they tell anything settles these parameters and leaves the others. Shifts and turns have none.

With A the linear part of a pose, its strain is Hencky's, ``E = log(A' A) / 2``: the same however either image is turned, and opposite
for a pose and its inverse. Its price is ``stiffness * WIDTH^2 / 2 * log(1 + ||E||^2 / WIDTH^2)`` (Frobenius), as of a Student's density:
``stiffness / 2 * ||E||^2`` while the strain is small, and hardly more where sizes do differ, however much they do. Its derivative along
a generator g of the tangent space is ``stiffness * <E, g> / (1 + ||E||^2 / WIDTH^2)``.

Source of the strain: Hencky 1928; of a prior over the strains of an affine: Ashburner et al. 1997, NeuroImage 6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from medmi.native import loops
from medmi.registration.ascent import Climbable
from medmi.registration.objective import Scores

Array = np.ndarray
# A tenth along each of three axes.
WIDTH = 0.17


class Sampling(Climbable, Protocol):
    """An objective that looks at points, ``(3, N)``."""

    @property
    def points(self) -> Array: ...


@dataclass(frozen=True)
class Stiff:
    """An objective whose value pays for changes of size and shape.

    Attributes:
        objective: what is climbed otherwise.
        stiffness: in units of its value.
        spatial_dims: 2 or 3.
    """

    objective: Sampling
    stiffness: float
    spatial_dims: int

    @property
    def points(self) -> Array:
        """Of the objective, ``(3, N)``."""
        return self.objective.points

    def __call__(self, poses: Array, gradient: bool = True) -> Scores:
        """Evaluate affine poses ``(B, 4, 4)``."""
        scores = self.objective(poses, gradient)
        strains, by_linear = strains_of(poses, self.spatial_dims)
        shares = (strains**2).sum((1, 2)) / WIDTH**2
        value = scores.value - self.stiffness * WIDTH**2 / 2 * np.log1p(shares)
        if not gradient:
            return replace(scores, value=value)
        slopes = scores.gradient.copy()
        slopes[:, : self.spatial_dims, : self.spatial_dims] -= (
            by_linear * (self.stiffness / (1 + shares))[:, None, None]
        )
        return replace(scores, value=value, gradient=slopes)


def stiffened(objective: Sampling, stiffness: float, spatial_dims: int) -> Sampling:
    """The objective, stiff if that is above 0."""
    return Stiff(objective, stiffness, spatial_dims) if stiffness else objective


def strains_of(poses: Array, spatial_dims: int) -> tuple[Array, Array]:
    """Strains E ``(B, d, d)``, symmetric, of the linear parts A of poses ``(B, 4, 4)``, 0 of rigid ones; and ``A^-T E``, likewise.

    E is the derivative of ``||E||^2 / 2`` along the generators of the tangent space, ``A^-T E`` that by A itself. A pose that leads nowhere
    has no strain; what it scores says so.
    """
    strains, by_linear = np.empty((2, len(poses), spatial_dims, spatial_dims))
    loops.strain(np.ascontiguousarray(poses), strains, by_linear)
    return strains, by_linear
