"""Iterated inference: a registration network run several times, each time on what the passes before have moved.

Words: a *pose* is a world matrix from the network's grid to the world of what is moved.
"""

from __future__ import annotations

from torch import Tensor

from medmi.grid import Grid
from medmi.networks.registration import PairGenerator
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError

__all__ = ["passed_poses"]


def passed_poses(
    network: PairGenerator, fixed: Tensor, source: Tensor, start: Tensor, grids: tuple[Grid, Grid], passes: int = 1
) -> list[Tensor]:
    """The poses after each pass, ``start @ T_1 @ ... @ T_k``.

    The moving images are resampled from their source at each composed pose, the edge voxels going on outside, as in
    training: nothing is lost or blurred by passes before.

    Args:
        network: gives the parameters of a transform.
        fixed: ``(B, 1, *grid)``.
        source: moving images ``(B, 1, *source)``.
        start: first poses ``(B, d + 1, d + 1)``.
        grids: the network's and the source's.
        passes: how often the network runs.

    Returns:
        ``passes`` matrices ``(B, d + 1, d + 1)`` float64, fixed world to source world.

    Raises:
        InputError: fewer than one pass, or shapes that do not fit.
    """
    if passes < 1:
        raise InputError(f"passes: {passes!r} came; at least 1 is asked")
    pose, found = start.double(), []
    for _ in range(passes):
        moving = resample_replicated(source, grids[1], pose, grids[0])
        pose = pose @ network.matrix(fixed, moving, grids[0])
        found.append(pose)
    return found
