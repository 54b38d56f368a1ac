"""Similarity terms of sampled points in torch's operators: the values of :mod:`medmi.registration.terms` on any device.

Their derivatives are autograd's, so that they share no formula with those of the compiled loops. Shapes are theirs: moved ``(C, B, N)``,
fixed ``(C, N)``, weights ``(B, N)``. Sums are float64: a device may round float32 products to fewer digits on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TINY, ROUNDING = 1e-12, 1e-12


@dataclass(frozen=True)
class TensorSamples:
    """Fixed values at the drawn points, and the moving values' range, on the device.

    Attributes:
        fixed: ``(C, N)``.
        positions: fixed bin positions ``(C, N)`` in [0, bins - 1].
        low, scale: ``(C,)``: ``(value - low) * scale`` is the moving bin position.
        bins: bins along each axis of the joint histogram.
    """

    fixed: Tensor
    positions: Tensor
    low: Tensor
    scale: Tensor
    bins: int


TensorEvaluation = Callable[[Tensor, Tensor, TensorSamples], Tensor]


def windows(positions: Tensor, bins: int) -> Tensor:
    """What each point ``(..., N)`` gives to the two bins around it: linear windows ``(..., N, bins)``, float64.

    >>> windows(torch.tensor([1.25]), 4).tolist()
    [[0.0, 0.75, 0.25, 0.0]]
    """
    cell = positions.detach().floor().clamp(max=bins - 2).unsqueeze(-1)
    share, places = positions.unsqueeze(-1) - cell, torch.arange(bins, device=positions.device)
    return (torch.where(places == cell, 1 - share, 0) + torch.where(places == cell + 1, share, 0)).double()


def joint_probabilities(moved: Tensor, weights: Tensor, samples: TensorSamples) -> Tensor:
    """Joint histograms of the overlap that sum to one, ``(C, B, bins, bins)``: rows fixed, columns moving.

    Sums over points are matrix products, whose order does not change from run to run.
    """
    columns = (moved - samples.low[:, None, None]) * samples.scale[:, None, None]
    moving = windows(columns.clamp(0, samples.bins - 1), samples.bins) * weights[..., None]
    tables = windows(samples.positions, samples.bins).mT.unsqueeze(1) @ moving
    return tables / tables[0].sum((-1, -2), keepdim=True).clamp_min(TINY)


def entropy(probabilities: Tensor) -> Tensor:
    """In nat, over the last two axes."""
    return -(probabilities * probabilities.clamp_min(TINY).log()).sum((-1, -2))


def _entropies(moved: Tensor, weights: Tensor, samples: TensorSamples) -> tuple[Tensor, Tensor]:
    """Of both images together, summed, and of their pairs, ``(C, B)`` each."""
    tables = joint_probabilities(moved, weights, samples)
    return entropy(tables.sum(-1, keepdim=True)) + entropy(tables.sum(-2, keepdim=True)), entropy(tables)


def mutual_information(moved: Tensor, weights: Tensor, samples: TensorSamples) -> Tensor:
    """MI in nat of the joint histogram, ``(B,)``, summed over channels."""
    single, joint = _entropies(moved, weights, samples)
    return (single - joint).sum(0)


def normalized_mutual_information(moved: Tensor, weights: Tensor, samples: TensorSamples) -> Tensor:
    """NMI = (H(x) + H(y)) / H(x, y), ``(B,)``, summed over channels."""
    single, joint = _entropies(moved, weights, samples)
    return (single / joint.clamp_min(TINY)).sum(0)


def squared_difference(moved: Tensor, weights: Tensor, samples: TensorSamples) -> Tensor:
    """Minus the mean squared difference over the overlap, ``(B,)``, summed over channels."""
    squares = (moved - samples.fixed[:, None]).double().square().sum(0)
    return -(squares * weights).sum(-1) / weights.sum(-1, dtype=torch.float64).clamp_min(TINY)


def cross_correlation(moved: Tensor, weights: Tensor, samples: TensorSamples) -> Tensor:
    """Pearson's correlation over the overlap, ``(B,)``, summed over channels; 0 where either image is flat there."""
    share = weights / weights.sum(-1, keepdim=True, dtype=torch.float64).clamp_min(TINY)

    def standardised(x: Tensor) -> Tensor:
        rest = x - (x * share).sum(-1, keepdim=True)
        variance = (rest * rest * share).sum(-1, keepdim=True)
        varies = variance > ROUNDING * (x * x * share).sum(-1, keepdim=True)
        return torch.where(varies, rest / torch.where(varies, variance, 1).sqrt(), 0)

    return (standardised(samples.fixed[:, None].double()) * standardised(moved.double()) * share).sum((0, -1))
