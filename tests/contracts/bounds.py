"""What every variational bound owes: the divergence it is named for at its optimal critic, and never more.

A *law* is a set of equally weighted joint points and of equally weighted product points, so that the plain means inside
the bounds are exact sums (a table) or midpoint quadrature (a Gaussian pair).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from scipy.integrate import dblquad
from scipy.stats import norm
from torch import Tensor

from medmi.information.bounds import BOUNDS, MovingAverage

COUNTS = torch.tensor([[6, 1, 2, 1], [1, 3, 1, 2], [2, 1, 1, 9]])


@dataclass(frozen=True)
class Law:
    """Points ``(N, 2)`` of P and ``(K, N, 2)`` of Q, the log density ratio there, and the quadrature's error."""

    joint: Tensor
    marginal: Tensor
    log_ratio: Callable[[Tensor], Tensor]
    error: float

    def scores(self, critic: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        return critic(self.joint), critic(self.marginal)


def table_law() -> Law:
    """A 3 x 4 table of counts: every sum is exact."""
    cells = COUNTS.nonzero().repeat_interleave(COUNTS.flatten(), 0)
    size = len(cells)
    shifts = (torch.arange(size) + torch.arange(size)[:, None]) % size
    marginal = torch.stack([cells[:, 0].expand(size, size), cells[:, 1][shifts]], -1)
    p = COUNTS.double() / size
    log_ratio = (p / (p.sum(1, keepdim=True) * p.sum(0))).log()
    return Law(cells, marginal, lambda at: log_ratio[at[..., 0], at[..., 1]], 1e-12)


def gaussian_law(rho: float, side: int = 600) -> Law:
    """A Gaussian pair at the midpoints of equally probable cells."""
    normal = torch.from_numpy(norm.ppf((torch.arange(side).double() + 0.5).numpy() / side))
    x, noise = normal[:, None].expand(side, side), normal.expand(side, side)
    joint = torch.stack([x, rho * x + math.sqrt(1 - rho**2) * noise], -1).reshape(-1, 2)

    def log_ratio(at: Tensor) -> Tensor:
        u, v = at[..., 0], at[..., 1]
        form = (rho**2 * (u**2 + v**2) - 2 * rho * u * v) / (2 * (1 - rho**2))
        return -0.5 * math.log(1 - rho**2) - form

    return Law(joint, torch.stack([x, noise], -1).reshape(1, -1, 2), log_ratio, 4e-3)


def table_divergence(f: Callable[[Tensor], Tensor]) -> float:
    """E_Q[f(r)] of the table, cell by cell."""
    p = COUNTS.double() / COUNTS.sum()
    q = p.sum(1, keepdim=True) * p.sum(0)
    return float((q * f(p / q)).sum())


def gaussian_jensen_shannon(rho: float) -> float:
    """By SciPy's quadrature, in the rotated frame where both laws are products."""

    def integrand(v: float, u: float) -> float:
        p = norm.pdf(u, scale=math.sqrt(1 + rho)) * norm.pdf(v, scale=math.sqrt(1 - rho))
        q = norm.pdf(u) * norm.pdf(v)
        return (p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q))) / 2

    return dblquad(integrand, -8, 8, -8, 8, epsabs=1e-6)[0]


class BoundContract:
    """Inherit and name a row of the table, its f-divergence and its closed form for a Gaussian pair."""

    name: str
    correlations: tuple[float, ...] = (0.0, 0.5, 0.8)

    @staticmethod
    def optimal_score(log_ratio: Tensor) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def f(ratio: Tensor) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def of_gaussian(rho: float) -> float:
        raise NotImplementedError

    def test_optimal_critic_reaches_its_divergence_of_a_gaussian_pair(self) -> None:
        for rho in self.correlations:
            law = gaussian_law(rho)
            joint, marginal = law.scores(lambda at, law=law: self.optimal_score(law.log_ratio(at)))  # type: ignore[misc]
            value = float(BOUNDS[self.name].value(joint, marginal))
            assert value == pytest.approx(self.of_gaussian(rho), abs=law.error)

    def test_optimal_critic_reaches_its_divergence_of_a_table(self) -> None:
        law = table_law()
        value = BOUNDS[self.name].value(*law.scores(lambda at: self.optimal_score(law.log_ratio(at))))
        assert float(value) == pytest.approx(table_divergence(self.f), abs=law.error)

    def test_link_inverts_the_optimum(self) -> None:
        log_ratio = torch.linspace(-3, 3, 13, dtype=torch.float64)
        torch.testing.assert_close(BOUNDS[self.name].log_ratio(self.optimal_score(log_ratio)), log_ratio)

    def test_what_trains_is_stationary_at_the_optimum(self) -> None:
        law, direction = table_law(), _random_table(0)
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        scores = law.scores(lambda at: self.optimal_score(law.log_ratio(at)) + step * direction[at[..., 0], at[..., 1]])
        BOUNDS[self.name].train_on(*scores, MovingAverage()).backward()
        assert step.grad is not None and abs(float(step.grad)) < 1e-12

    @pytest.mark.parametrize("seed", range(20))
    def test_random_critics_never_exceed(self, seed: int) -> None:
        law, critic = table_law(), _random_table(seed)
        value = BOUNDS[self.name].value(*law.scores(lambda at: critic[at[..., 0], at[..., 1]]))
        assert float(value) <= table_divergence(self.f) + law.error

    @pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
    def test_scaled_critics_do_not_diverge_upwards(self, scale: float) -> None:
        law = table_law()
        value = BOUNDS[self.name].value(*law.scores(lambda at: scale * self.optimal_score(law.log_ratio(at))))
        assert float(value) <= table_divergence(self.f) + law.error


def _random_table(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(COUNTS.shape, generator=generator, dtype=torch.float64)
