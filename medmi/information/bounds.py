"""Variational bounds of mutual information and its sibling divergences, as functions of critic scores.

Words: P is the joint law of (x, y), Q the product of its marginals and r = dP/dQ their density ratio; the mutual
information is KL(P || Q) = E_P[log r]. A critic gives each pair a real *score*; ``joint`` holds the scores of N true
pairs, shape ``(N,)``, and ``marginal`` those of K re-pairings of them, shape ``(K, N)``: column i keeps the i-th x (or
y) and row k is one derangement (:mod:`medmi.information.pairs`). Every bound is a scalar in nat that is to be raised.

A row of :data:`BOUNDS` says what the scores mean: :attr:`Bound.log_ratio` maps the optimal critic's score to log r.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import elu, softplus

from medmi.validation import InputError

__all__ = [
    "BOUNDS",
    "Bound",
    "MovingAverage",
    "chi_squared",
    "donsker_varadhan",
    "hellinger",
    "infonce",
    "jensen_shannon",
    "log_mean_exp",
    "moving_average_donsker_varadhan",
    "nguyen_wainwright_jordan",
    "smile",
]

SMILE_CLIP = 5.0


def log_mean_exp(scores: Tensor) -> Tensor:
    """log of the mean of exp over every element: a scalar.

    >>> round(float(log_mean_exp(torch.tensor([0.0, math.log(3.0)]))), 6) == round(math.log(2.0), 6)
    True
    """
    return torch.logsumexp(scores.flatten(), 0) - math.log(scores.numel())


def donsker_varadhan(joint: Tensor, marginal: Tensor) -> Tensor:
    """E_P[T] - log E_Q[exp T], at most KL(P || Q), reached at T = log r + any constant.

    Source: Donsker and Varadhan 1983; Belghazi et al. 2018, "Mutual Information Neural Estimation", Eq. 4.
    """
    return joint.mean() - log_mean_exp(marginal)


def moving_average_donsker_varadhan(joint: Tensor, marginal: Tensor, log_average: Tensor) -> Tensor:
    """E_P[T] - a - E_Q[exp(T - a)] + 1 with a, the running log E_Q[exp T], held constant.

    Its gradient is MINE's, E_P[dT] - E_Q[exp(T) dT] / exp(a), which removes the bias that a batch's own mean has in the
    denominator. As log z <= a + z / exp(a) - 1, it never exceeds :func:`donsker_varadhan` and equals it at the batch's
    own a.

    Source: Belghazi et al. 2018, section 3.2, Eq. 12.
    """
    return joint.mean() - log_average - torch.exp(marginal - log_average).mean() + 1


def nguyen_wainwright_jordan(joint: Tensor, marginal: Tensor) -> Tensor:
    """E_P[T] - E_Q[exp(T - 1)], the f-divergence bound of KL(P || Q), reached at T = 1 + log r.

    Source: Nguyen, Wainwright and Jordan 2010, Eq. 8; Nowozin et al. 2016, "f-GAN", Table 2.
    """
    return joint.mean() - torch.exp(marginal - 1).mean()


def jensen_shannon(joint: Tensor, marginal: Tensor) -> Tensor:
    """log 2 - (E_P[softplus(-T)] + E_Q[softplus(T)]) / 2, at most JS(P || Q), in [0, log 2], reached at T = log r.

    Source: Nowozin et al. 2016, Tables 1 and 2 (half of theirs, so that it is the Jensen-Shannon divergence).
    """
    return math.log(2) - (softplus(-joint).mean() + softplus(marginal).mean()) / 2


def hellinger(joint: Tensor, marginal: Tensor) -> Tensor:
    """2 - E_P[exp(-T)] - E_Q[exp T], at most the squared Hellinger distance, reached at T = log(r) / 2.

    That distance is E_Q[(sqrt r - 1)^2], in [0, 2].

    Source: Nowozin et al. 2016, Tables 1 and 2: f*(t) = t / (1 - t) at t = 1 - exp(-T).
    """
    return 2 - torch.exp(-joint).mean() - torch.exp(marginal).mean()


def chi_squared(joint: Tensor, marginal: Tensor) -> Tensor:
    """E_P[t] - E_Q[t + t^2 / 4] with t = 2 elu(T), at most Pearson's chi^2, reached at elu(T) = r - 1.

    That divergence is E_Q[(r - 1)^2], not negative and unbounded above. elu confines t to the dual's domain, r > 0, and
    grows no faster than T, so that one outlying pair does not swamp the rest.

    Source: Nowozin et al. 2016, Table 1 (Pearson): f*(t) = t + t^2 / 4.
    """
    return 2 * elu(joint).mean() - (2 * elu(marginal) + elu(marginal).square()).mean()


def infonce(joint: Tensor, marginal: Tensor) -> Tensor:
    """E[T(x_i, y_i) - log mean_j exp T(x_i, y_j)] over the true pair and its K re-pairings.

    At most min(I, log(K + 1)); all pairs of a batch of N make K + 1 = N. Reached in the limit of K at T = log r plus
    any function of what the columns keep.

    Source: van den Oord et al. 2018, "Contrastive Predictive Coding", Eq. 4; Poole et al. 2019, Eq. 10.
    """
    together = torch.cat([joint[None], marginal])
    return (joint - torch.logsumexp(together, 0)).mean() + math.log(len(together))


def smile(joint: Tensor, marginal: Tensor, clip: float = SMILE_CLIP) -> Tensor:
    """E_P[T] - log E_Q[exp clip(T, -clip, clip)]: Donsker-Varadhan with less variance, and no bound.

    Clipping lowers E_Q[exp T], so at T = log r the value lies above KL(P || Q) by -log E_Q[clipped r].

    Source: Song and Ermon 2020, "Understanding the Limitations of Variational Mutual Information Estimators", Eq. 12.
    """
    return joint.mean() - log_mean_exp(marginal.clamp(-clip, clip))


class MovingAverage:
    """Running log of the mean of exp(score), for MINE's gradient.

    Args:
        rate: weight of the newest batch, in (0, 1); the first batch counts wholly.

    Raises:
        InputError: the rate is not between 0 and 1.
    """

    def __init__(self, rate: float = 0.1) -> None:
        if not 0 < rate < 1:
            raise InputError(f"rate: {rate!r} came; a number between 0 and 1 is asked")
        self.rate = rate
        self.log_mean: Tensor | None = None

    def update(self, marginal: Tensor) -> Tensor:
        """Take in a batch's scores; the new log average, detached."""
        newest = log_mean_exp(marginal.detach())
        if self.log_mean is not None:
            newest = torch.logaddexp(self.log_mean + math.log1p(-self.rate), newest + math.log(self.rate))
        self.log_mean = newest
        return newest


def _as_given(score: Tensor) -> Tensor:
    return score


def _less_one(score: Tensor) -> Tensor:
    return score - 1


def _doubled(score: Tensor) -> Tensor:
    return 2 * score


def _log_of_elu_plus_one(score: Tensor) -> Tensor:
    return torch.where(score > 0, torch.log1p(score.clamp_min(0)), score)


@dataclass(frozen=True)
class Bound:
    """One way of training a critic and of reading it.

    Attributes:
        value: the bound itself, from ``joint`` (N,) and ``marginal`` (K, N) scores, in nat; raised in training unless
            ``objective`` is given.
        log_ratio: from the optimal critic's scores to log r, up to the normalisation that a read-out restores.
        averaged: the gradient is that of :func:`moving_average_donsker_varadhan`.
        objective: what is raised in training where that is not ``value``.
        all_pairs: trained against every other pair of the batch rather than some derangements of it.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    log_ratio: Callable[[Tensor], Tensor] = _as_given
    averaged: bool = False
    objective: Callable[[Tensor, Tensor], Tensor] | None = None
    all_pairs: bool = False

    def train_on(self, joint: Tensor, marginal: Tensor, average: MovingAverage) -> Tensor:
        """The scalar whose gradient trains the critic; ``average`` is updated where the row uses one."""
        if self.averaged:
            return moving_average_donsker_varadhan(joint, marginal, average.update(marginal))
        return (self.objective or self.value)(joint, marginal)


BOUNDS: Mapping[str, Bound] = MappingProxyType(
    {
        "dv": Bound(donsker_varadhan),
        "mine": Bound(donsker_varadhan, averaged=True),
        "nwj": Bound(nguyen_wainwright_jordan, log_ratio=_less_one),
        "jsd": Bound(jensen_shannon),
        "hellinger": Bound(hellinger, log_ratio=_doubled),
        "chi2": Bound(chi_squared, log_ratio=_log_of_elu_plus_one),
        "infonce": Bound(infonce, all_pairs=True),
        # Raising the clipped value itself has no optimum: above the clip the marginal scores lose their gradient.
        "smile": Bound(smile, objective=jensen_shannon),
    }
)
