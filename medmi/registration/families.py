"""Families of linear transforms as the solver sees them: which level runs which, the sizes that are searched, and generators in mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medmi.registration.levels import Array, lift
from medmi.registration.problem import Problem
from medmi.registration.terms import Term
from medmi.spatial.generators import generators

# The families that the levels of each family run through, coarse to fine: few parameters first, so that none takes up another's motion, and
# sizes held where poses are coarse: those of the search are compared with each other, not bent until they fit somewhere.
FAMILY_BY_LEVEL = {
    "translation": ("translation", "translation", "translation"),
    "rigid": ("rigid", "rigid", "rigid"),
    "similarity": ("rigid", "similarity", "similarity"),
    "affine": ("rigid", "similarity", "affine"),
    "homography": ("similarity", "affine", "homography"),
}
# What the poses of the coarsest level climb on along, once each has found its place with its size held: only then are sizes compared that
# lie between those of the search.
FREED = {"similarity": "similarity", "affine": "similarity"}
# Sizes of the moving image against the fixed one that the search tries, for families that can change it.
SCALES = {
    "translation": (1.0,),
    "rigid": (1.0,),
    "similarity": (1.0, 0.85, 1.18),
    "affine": (1.0, 0.85, 1.18),
    "homography": (1.0, 0.85, 1.18),
}
# Families that change sizes at a price; a homography does so differently at every point.
STIFF = frozenset({"similarity", "affine"})
# Share of the points lost over a background rim from which on a family that changes sizes does not go by them: T1 of limbs lose
# either up to 0.21 of what the CT shows or 0.30 and more, one that is really a fifth larger from 0.23 on while its size is held.
MOST_LOST = 0.225


def term_for(term: Term, family: str, lost: float) -> Term:
    """The term as a family climbs it.

    A family that changes sizes wins points at the rim by shrinking the fixed image into view, which matters where many are lost, and pays
    for it where it is stiff.

    Args:
        term: any.
        family: linear.
        lost: share of the fixed points that are lost over a background rim where the level before ended, 0 to 1.
    """
    sized = len(SCALES[family]) > 1
    rim = term.rim and not (sized and lost >= MOST_LOST)
    return replace(term, rim=rim, stiffness=term.stiffness if family in STIFF else 0.0)


def lift_point(problem: Problem) -> Array:
    """Middle of the fixed grid as a 3D world point: the solver's centre."""
    return np.append(problem.fixed.grid.centre.numpy(), [0.0] * (3 - problem.spatial_dims))


def scaled_basis(family: str, problem: Problem) -> Array:
    """Generators ``(t, 4, 4)`` about the centre, scaled so that a unit moves the farthest corner of the fixed grid by 1 mm."""
    basis = np.stack([lift(g) for g in generators(family, problem.spatial_dims)])
    basis[:, 2, 2] *= problem.spatial_dims == 3  # lifting puts a 1 on the third axis, which a generator must not have
    corners = np.zeros((2**problem.spatial_dims, 4))
    corners[:, 3] = 1
    corners[:, : problem.spatial_dims] = (problem.fixed.grid.corners - problem.fixed.grid.centre).numpy()
    speed = np.einsum("tij,nj->tni", basis, corners)
    # A perspective row moves a point by its own length times the row's product with it.
    velocity = speed[..., :3] - corners[None, :, :3] * speed[..., 3:]
    return basis / np.linalg.norm(velocity, axis=-1).max(1)[:, None, None]
