"""Reconstruction losses by name: what may be added to the adversarial loss, or stand in for it.

``supervised`` compares with the true transform and is no adversarial training; ``mi``, ``lmi`` and ``mine`` compare
the moved image with the fixed one, and need no truth either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from medmi.engines.adversarial import Prediction, no_reconstruction, supervised_loss
from medmi.grid import Grid
from medmi.losses import LinearizedMutualInformationLoss, MINELoss, MutualInformationLoss, VoxelSampling
from medmi.validation import choose

__all__ = ["RECONSTRUCTIONS", "Reconstruction", "reconstruction_loss"]


@dataclass(frozen=True)
class Reconstruction:
    """A loss, and the module whose parameters learn with the generator, if it has one."""

    loss: Callable[[Prediction], Tensor]
    learns: nn.Module | None = None


def similarity_of(module: nn.Module, learns: bool = False) -> Reconstruction:
    """A similarity term of moved and fixed."""
    return Reconstruction(lambda prediction: module(prediction.moved, prediction.fixed), module if learns else None)


def mine() -> Reconstruction:
    """MINE on 512 voxels of each pair."""
    return similarity_of(MINELoss(sampling=VoxelSampling(num_samples=512)), learns=True)


RECONSTRUCTIONS: Mapping[str, Callable[[Grid], Reconstruction]] = MappingProxyType(
    {
        "none": lambda grid: Reconstruction(no_reconstruction),
        "supervised": lambda grid: Reconstruction(supervised_loss(grid)),
        "mi": lambda grid: similarity_of(MutualInformationLoss(num_bins=16)),
        "lmi": lambda grid: similarity_of(LinearizedMutualInformationLoss()),
        "mine": lambda grid: mine(),
    }
)
"""Reconstruction losses by name, each made for the network's grid."""


def reconstruction_loss(name: str, grid: Grid) -> Reconstruction:
    """The reconstruction loss of a name.

    Raises:
        InputError: an unknown name.
    """
    return choose(name, RECONSTRUCTIONS, "reconstruction")(grid)
