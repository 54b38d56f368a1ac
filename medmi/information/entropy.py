"""Entropy, mutual information and their kin, of tables of probabilities.

All are in nat, take tables in batches with leading axes left as they are, and have finite gradients on tables with
empty entries.
"""

from __future__ import annotations

import torch

from medmi.validation import InputError

FLOOR = 1e-16
"""Probabilities are not told apart from zero below this; it bounds the slope of p log p, infinite at zero, by 36."""


def entropy(p: torch.Tensor) -> torch.Tensor:
    """Shannon entropy ``-sum_i p_i ln p_i`` over the last axis, from 0 (certain) to ln of its length (uniform), nat.

    Args:
        p: ``(..., bins)``, probabilities that sum to one along the last axis.

    Returns:
        ``(...)`` float64.

    Raises:
        InputError: p has no axis.

    >>> round(float(entropy(torch.tensor([0.5, 0.5, 0.0]))), 6)
    0.693147
    """
    if p.ndim < 1:
        raise InputError("entropy: p has no axis; (..., bins) is asked")
    p = p.double()
    return -torch.xlogy(p, p.clamp_min(FLOOR)).sum(-1)


def mutual_information(p: torch.Tensor) -> torch.Tensor:
    """``I = sum_ij p_ij ln(p_ij / (p_i p_j)) = H(x) + H(y) - H(x, y)``, from 0 (independent) to the lesser of H(x)
    and H(y), nat.

    Args:
        p: ``(..., bins of x, bins of y)``, each table summing to one.

    Returns:
        ``(...)`` float64.

    Raises:
        InputError: p has fewer than two axes.

    >>> p = torch.tensor([[[0.5, 0.0], [0.0, 0.5]], [[0.25, 0.25], [0.25, 0.25]]])
    >>> [round(v, 6) for v in mutual_information(p).abs().tolist()]
    [0.693147, 0.0]
    """
    first, second, joint = _entropies(p, "mutual_information")
    return first + second - joint


def normalized_mutual_information(p: torch.Tensor) -> torch.Tensor:
    """``(H(x) + H(y)) / H(x, y)``, from 1 (independent, or one side constant) to 2 (each determines the other).

    Studholme, Hill & Hawkes 1999. Two constant sides share nothing: 1, with zero gradient.

    Args:
        p: ``(..., bins of x, bins of y)``, each table summing to one.

    Returns:
        ``(...)`` float64.

    Raises:
        InputError: p has fewer than two axes.
    """
    first, second, joint = _entropies(p, "normalized_mutual_information")
    known = joint > 1e-12
    return torch.where(known, (first + second) / torch.where(known, joint, 1.0), 1.0)


def total_variation_information(p: torch.Tensor) -> torch.Tensor:
    """``1/2 sum_ij |p_ij - p_i p_j|``, from 0 (independent) to 1 - 1/bins (a uniform bijection of the bins).

    The distance in total variation from the product of the marginals: blind to a relabelling of either side's bins,
    as mutual information is, and linear in p where the latter has logarithms.

    Args:
        p: ``(..., bins of x, bins of y)``, each table summing to one.

    Returns:
        ``(...)`` float64.

    Raises:
        InputError: p has fewer than two axes.
    """
    p = _tables(p, "total_variation_information")
    return (p - p.sum(-1, keepdim=True) * p.sum(-2, keepdim=True)).abs().sum((-1, -2)) / 2


def _tables(p: torch.Tensor, caller: str) -> torch.Tensor:
    if p.ndim < 2:
        raise InputError(f"{caller}: p has shape {tuple(p.shape)}; (..., bins of x, bins of y) is asked")
    return p.double()


def _entropies(p: torch.Tensor, caller: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    p = _tables(p, caller)
    return entropy(p.sum(-1)), entropy(p.sum(-2)), entropy(p.flatten(-2))
