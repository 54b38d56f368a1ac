"""Reading mutual information from a critic's scores on held-out pairs, with its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from medmi.information.bounds import Bound
from medmi.information.pairs import Critic, embedded

__all__ = ["Estimate", "held_out_scores", "read"]

RESAMPLES = 200
CHUNK = 1 << 14
SEEN = 1 << 9


@dataclass(frozen=True)
class Estimate:
    """Mutual information in nat.

    Attributes:
        value: mutual information by the critic's log density ratio; at least 0 but for sampling noise.
        low: lower end of the confidence interval.
        high: upper end. The interval holds the noise of the held-out pairs and of their derangements, not what a
            critic trained too little falls short of.
        divergence: the trained bound's own value on the same pairs: mutual information for dv, mine, nwj, infonce and
            smile, else its own divergence.
    """

    value: float
    low: float
    high: float
    divergence: float


@torch.no_grad()
def held_out_scores(critic: Critic, x: Tensor, y: Tensor, pairing: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the true pairs ``(N,)`` and of each derangement ``(K, N)`` in float64, in chunks of memory."""

    seen = [embedded(critic, a, b) for a, b in zip(x.split(SEEN), y.split(SEEN))]
    meet, x, y = seen[0][0], torch.cat([s[1] for s in seen]), torch.cat([s[2] for s in seen])

    def scores(partner: Tensor) -> Tensor:
        chunks = [meet(a, b) for a, b in zip(x.split(CHUNK), partner.split(CHUNK))]
        return torch.cat(chunks).reshape(len(x)).double().cpu()

    return scores(y), torch.stack([scores(y[row.to(y.device)]) for row in pairing])


def read(
    bound: Bound, parts: list[tuple[Tensor, Tensor]], negatives: int, confidence: float, generator: torch.Generator
) -> Estimate:
    """The estimate from one or more parts' ``(N,)`` and ``(K, N)`` scores, each part by its own critic.

    The log density ratio is normalised in each part so that its exponential has mean 1 over the marginal pairs; value
    is then mean over derangements of Donsker-Varadhan, E_P[log r] - log E_Q[r].

    Args:
        bound: the row the critics were trained on.
        parts: joint and marginal scores, all with the same K.
        negatives: marginal pairs that the trained bound itself is read with, at most K.
        confidence: of the interval, in (0, 1).
        generator: draws the bootstrap.
    """
    ratios = [_normalised(bound.log_ratio(joint), bound.log_ratio(marginal)) for joint, marginal in parts]
    log_ratio, marginal_ratio = torch.cat([r[0] for r in ratios]), torch.cat([r[1] for r in ratios], 1).exp()
    each = log_ratio.mean() - marginal_ratio.mean(1).log()
    variance = _bootstrap_variance(log_ratio, marginal_ratio.mean(0), generator) + each.var() / len(each)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(variance.sqrt())
    value = float(each.mean())
    joint, marginal = torch.cat([p[0] for p in parts]), torch.cat([p[1][:negatives] for p in parts], 1)
    return Estimate(value, value - half, value + half, float(bound.value(joint, marginal)))


def _normalised(joint: Tensor, marginal: Tensor) -> tuple[Tensor, Tensor]:
    constant = torch.logsumexp(marginal.flatten(), 0) - torch.tensor(float(marginal.numel())).log()
    return joint - constant, marginal - constant


def _bootstrap_variance(log_ratio: Tensor, marginal_ratio: Tensor, generator: torch.Generator) -> Tensor:
    size, values = len(log_ratio), []
    for _ in range(RESAMPLES):
        drawn = torch.randint(size, (size,), generator=generator)
        values.append(log_ratio[drawn].mean() - marginal_ratio[drawn].mean().log())
    return torch.stack(values).var()
