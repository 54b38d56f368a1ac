"""The price (a prior, or regularisation) of changing an image's size and shape: a pose stretches it as far as the images tell, no farther.

Along some of an affine's twelve parameters a pair may tell next to nothing: a limb's PET hardly changes where it is sheared along its
bone, noise stretches it by a tenth there, and coarse images agree better the smaller they are looked at. A price that is small beside what
images tell wherever they tell anything settles these parameters and leaves the others. Shifts and turns have none.

With A the linear part of a pose, its strain is Hencky's, ``E = log(A' A) / 2``: the same however either image is turned, and opposite
for a pose and its inverse. It is the sum of a change of size, ``E_1 = tr(E) / d I``, and one of shape, ``E_2 = E - E_1``, which is rarer.
Each costs ``stiffness * W_k^2 * (sqrt(1 + ||E_k||^2 / W_k^2) - 1)`` (Frobenius; Charbonnier's): ``stiffness / 2 * ||E_k||^2`` while it is
small beside W_k, and in proportion to itself beyond, so that where sizes do differ the price moves the optimum no farther the more they do.
It has one bottom. Its derivative by A is ``stiffness * A^-T E_k / sqrt(1 + ||E_k||^2 / W_k^2)``.

Source of the strain: Hencky 1928; of a prior over the strains of an affine: Ashburner et al. 1997, NeuroImage 6; of the price's shape:
Charbonnier et al. 1997, IEEE Trans. Image Process. 6, Table I.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from medmi.native import loops
from medmi.registration.ascent import Climbable
from medmi.registration.objective import Scores

Array = np.ndarray
# Changes of size and of shape beyond which the price goes in proportion to them.
WIDTHS = np.array([0.01, 0.025])


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
        prices, slopes = prices_of(poses, self.spatial_dims)
        slopes = scores.gradient - self.stiffness * slopes if gradient else scores.gradient
        return replace(scores, value=scores.value - self.stiffness * prices, gradient=slopes)


def stiffened(objective: Sampling, stiffness: float, spatial_dims: int) -> Sampling:
    """The objective, stiff if that is above 0."""
    return Stiff(objective, stiffness, spatial_dims) if stiffness else objective


def prices_of(poses: Array, spatial_dims: int) -> tuple[Array, Array]:
    """Prices ``(B,)`` of affine poses ``(B, 4, 4)`` at a stiffness of 1, and their derivatives by the poses, likewise.

    A pose that leads nowhere pays nothing; what it scores says so.
    """
    prices, slopes = np.empty(len(poses)), np.empty((len(poses), 4, 4))
    loops.price_strain(np.ascontiguousarray(poses), WIDTHS, spatial_dims, prices, slopes)
    return prices, slopes
