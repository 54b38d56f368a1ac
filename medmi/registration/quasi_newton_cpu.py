"""Compiled steps of climbers: where each tries next, and what it makes of what it finds there.

B climbers, of which A are awake, t generators. All arrays hold one row a climber, those of what was tried one row for each that is awake.
The inverse Hessian is BFGS's (Nocedal & Wright, Numerical Optimization, 2006, Eq. 6.17).
"""

from __future__ import annotations

import numpy as np

from medmi.native import loops

Array = np.ndarray


def slopes(gradients: Array, poses: Array, basis: Array, out: Array) -> None:
    """dS/ds ``(B, t)`` at s = 0 of ``P exp(sum_i s_i G_i)`` from dS/dpose ``(B, 4, 4)``."""
    loops.slopes(gradients, poses, basis, out)


def propose(
    awake: Array, poses: Array, gradients: Array, inverses: Array, lengths: Array, basis: Array, first_step: float,
    here: Array, steps: Array, tried: Array,
) -> None:  # fmt: skip
    """Fill the slopes ``here (A, t)``, the steps ``(A, t)`` and the poses ``tried (A, 4, 4)``.

    A step is the share ``lengths (B,)`` of the quasi-Newton one, which is cut at twice ``first_step`` mm; where that would not rise, the
    inverse Hessian is set back to steepest ascent by ``first_step``.
    """
    loops.propose(awake, poses, gradients, inverses, lengths, basis, first_step, here, steps, tried)


def set_back(inverses: Array, slopes: Array, first_step: float) -> None:
    """Multiples of the identity, ``(B, t, t)``, that make the steps along the slopes ``(B, t)`` as long as ``first_step`` mm."""
    loops.set_back(inverses, slopes, first_step)


def settle(
    awake: Array, better: Array, steps: Array, here: Array, there: Array, first_step: float, inverses: Array,
    lengths: Array, moved: Array, resting: Array,
) -> None:  # fmt: skip
    """Learn from the slopes ``there (A, t)``, and whether it was ``better (A,)`` there: inverse Hessian, next length, length moved, rest.

    Who took two short steps running rests: along a narrow ridge one means little.
    """
    loops.settle(awake, better, steps, here, there, first_step, inverses, lengths, moved, resting)


def update(inverse: Array, step: Array, change: Array) -> None:
    """BFGS update with a step s and the change y of the descending gradient; skipped where ``s.y`` is not safely positive."""
    loops.update(inverse, step, change)
