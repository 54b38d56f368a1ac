"""Judged inference: a discriminator chooses among poses that a registration network finds from several starts.

The network's error changes with its start, and the discriminator has learnt to tell how well a pair is registered: the
better one of several answers is found without knowing the truth.

Words: a *pose* is a world matrix from the network's grid to the world of what is moved; *candidates* are poses after
one pass each from starts near a pose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from medmi.grid import Grid
from medmi.networks.registration import PairGenerator, PairScorer
from medmi.networks.registration_passes import passed_poses
from medmi.simulation.pairs import Extent, random_motions
from medmi.spatial.replicate import resample_replicated
from medmi.validation import InputError

__all__ = ["CANDIDATES", "Judge"]

CANDIDATES = 16
# Where candidates start: a few voxels away, as far as passes leave a pair and a network brings it back.
NEAR = Extent(degrees=8.0, mm=8.0, strain=0.05)
SEED = 0


@dataclass(frozen=True)
class Judge:
    """A discriminator that was trained against the network.

    Attributes:
        discriminator: whose scores rise as pairs are better registered.
        candidates: how many are drawn; their starts are the same at every call.

    Raises:
        InputError: fewer than one candidate.
    """

    discriminator: PairScorer
    candidates: int = CANDIDATES

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise InputError(f"candidates: {self.candidates!r} came; at least 1 is asked")

    @torch.no_grad()
    def chosen(
        self, network: PairGenerator, fixed: Tensor, source: Tensor, poses: Sequence[Tensor], grids: tuple[Grid, Grid]
    ) -> Tensor:
        """Of each sample the pose of the highest score, ``(B, d + 1, d + 1)``, among ``poses`` and candidates near the last.

        Args:
            network: in evaluation mode.
            fixed: ``(B, 1, *grid)``.
            source: moving images ``(B, 1, *source)``.
            poses: such as :func:`medmi.networks.registration_passes.passed_poses` gives, at least one.
            grids: the network's and the source's.
        """
        best, highest = poses[-1], fixed.new_full((len(fixed), 1), -torch.inf)
        # The last first: it stays where all score alike, or none has a score that is a number.
        for pose in chain(reversed(poses), self._candidates(network, fixed, source, poses[-1], grids)):
            score = self.discriminator(fixed, resample_replicated(source, grids[1], pose, grids[0]))
            best = torch.where((score > highest)[..., None], pose, best)
            highest = torch.maximum(highest, score)
        return best

    def _candidates(
        self, network: PairGenerator, fixed: Tensor, source: Tensor, near: Tensor, grids: tuple[Grid, Grid]
    ) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        motions = random_motions(self.candidates, network.family, grids[0], NEAR, generator).there
        for motion in motions.to(near):
            yield passed_poses(network, fixed, source, near @ motion, grids)[-1]
