"""Joint and marginal pairs: re-pairings that never contain a true pair, and the voxel pairs of two images.

Words: a *pairing* is an index tensor ``(K, N)``; its row k pairs the i-th x with the ``pairing[k, i]``-th y. In a
derangement no i keeps its own partner, so that no true pair poses as a marginal one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medmi.loaded import loaded
from medmi.validation import InputError

__all__ = ["all_pairs", "derangements", "embedded", "score_pairs", "voxel_pairs"]

Critic = Callable[[Tensor, Tensor], Tensor]


def all_pairs(size: int) -> Tensor:
    """Every pair of a batch but the true ones: the ``(size - 1, size)`` cyclic shifts.

    >>> all_pairs(3)
    tensor([[1, 2, 0],
            [2, 0, 1]])
    """
    _check_size(size, 1)
    return (torch.arange(size) + torch.arange(1, size)[:, None]) % size


def derangements(size: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` random derangements of ``range(size)``, no pair in two of them: ``(count, size)``.

    They are distinct cyclic shifts seen through one random relabelling.

    Raises:
        InputError: fewer than two to re-pair, or more derangements asked than the ``size - 1`` that share no pair.
    """
    _check_size(size, count)
    order = torch.randperm(size, generator=generator)
    shifts = 1 + torch.randperm(size - 1, generator=generator)[:count]
    pairing = torch.empty(count, size, dtype=torch.long)
    pairing[:, order] = order[(torch.arange(size) + shifts[:, None]) % size]
    return pairing


def score_pairs(critic: Critic, x: Tensor, y: Tensor, pairing: Tensor, turned: bool = False) -> tuple[Tensor, Tensor]:
    """Scores of the true pairs ``(N,)`` and of the re-pairings ``(K, N)`` from one call of the critic.

    Args:
        critic: maps x ``(M, ...)`` and y ``(M, ...)`` to ``(M,)`` or ``(M, 1)``; one that embeds them apart does so
            once.
        x: ``(N, ...)``.
        y: ``(N, ...)``.
        pairing: ``(K, N)``.
        turned: keep y and re-pair x.
    """
    meet, x, y = embedded(critic, x, y)
    size = len(x)
    kept = torch.arange(size, device=x.device).repeat(len(pairing) + 1)
    other = torch.cat([kept[:size], pairing.to(x.device).flatten()])
    at_x, at_y = (other, kept) if turned else (kept, other)
    # index_select: the backward of x[...] adds in an order that differs from run to run.
    scores = meet(x.index_select(0, at_x), y.index_select(0, at_y)).reshape(len(pairing) + 1, size)
    return scores[0], scores[1:]


def embedded(critic: Critic, x: Tensor, y: Tensor) -> tuple[Critic, Tensor, Tensor]:
    """What is left to do for each pair once x and y have been seen apart, and what to do it to."""
    if isinstance(critic, loaded("medmi.networks.critics", "EmbeddingCritic")):
        return critic.meet, critic.x_features(x), critic.y_features(y)
    return critic, x, y


def voxel_pairs(
    pred: Tensor, target: Tensor, mask: Tensor | None, count: int | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paired intensities of one sample's voxels: two ``(M, C)``.

    Args:
        pred: ``(C, *spatial)``.
        target: ``(C, *spatial)``.
        mask: ``(1 or C, *spatial)``; a voxel counts where every channel of it is non-zero. None: all voxels.
        count: voxels drawn, with replacement; None takes each once.
        generator: on the CPU.

    Raises:
        InputError: fewer than two voxels count.
    """
    x, y = pred.flatten(1), target.flatten(1)
    if mask is not None:
        inside = (mask != 0).flatten(1).all(0).nonzero()[:, 0]
        x, y = x.index_select(1, inside), y.index_select(1, inside)
    if x.shape[1] < 2:
        raise InputError(f"mask: it leaves {x.shape[1]} voxels that count in every channel; give two or more")
    if count is not None:
        drawn = torch.randint(x.shape[1], (count,), generator=generator).to(x.device)
        x, y = x.index_select(1, drawn), y.index_select(1, drawn)
    return x.T, y.T


def _check_size(size: int, count: int) -> None:
    if not 1 <= count < size:
        raise InputError(f"pairs: {count} derangements asked of {size} pairs; there are 1 to one less than the pairs")
