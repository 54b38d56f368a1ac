"""The bounds that reach an f-divergence: each inherits the contract with its own closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medmi.information.bounds import (
    MovingAverage,
    donsker_varadhan,
    log_mean_exp,
    moving_average_donsker_varadhan,
)
from medmi.validation import InputError
from tests.contracts.bounds import BoundContract, gaussian_jensen_shannon


class KullbackLeibler(BoundContract):
    @staticmethod
    def f(ratio: Tensor) -> Tensor:
        return ratio * ratio.log()

    @staticmethod
    def of_gaussian(rho: float) -> float:
        return -0.5 * math.log(1 - rho**2)


class TestDonskerVaradhan(KullbackLeibler):
    name = "dv"

    @staticmethod
    def optimal_score(log_ratio: Tensor) -> Tensor:
        return log_ratio

    def test_a_constant_changes_nothing(self) -> None:
        joint, marginal = _scores()
        shifted = donsker_varadhan(joint + 7, marginal + 7)
        assert float(shifted) == pytest.approx(float(donsker_varadhan(joint, marginal)), abs=1e-12)


class TestMINE(TestDonskerVaradhan):
    name = "mine"


class TestNguyenWainwrightJordan(KullbackLeibler):
    name = "nwj"

    @staticmethod
    def optimal_score(log_ratio: Tensor) -> Tensor:
        return 1 + log_ratio


class TestJensenShannon(BoundContract):
    name = "jsd"

    @staticmethod
    def optimal_score(log_ratio: Tensor) -> Tensor:
        return log_ratio

    @staticmethod
    def f(ratio: Tensor) -> Tensor:
        return (ratio * (2 * ratio / (1 + ratio)).log() + (2 / (1 + ratio)).log()) / 2

    @staticmethod
    def of_gaussian(rho: float) -> float:
        return gaussian_jensen_shannon(rho)


class TestHellinger(BoundContract):
    name = "hellinger"

    @staticmethod
    def optimal_score(log_ratio: Tensor) -> Tensor:
        return log_ratio / 2

    @staticmethod
    def f(ratio: Tensor) -> Tensor:
        return (ratio.sqrt() - 1) ** 2

    @staticmethod
    def of_gaussian(rho: float) -> float:
        return 2 - 2 * (1 - rho**2) ** 0.25 / (1 - rho**2 / 4) ** 0.5


class TestChiSquared(BoundContract):
    name = "chi2"
    # Beyond, E_Q[r^2] lies in tails that the midpoints do not reach.
    correlations = (0.0, 0.3, 0.5)

    @staticmethod
    def optimal_score(log_ratio: Tensor) -> Tensor:
        return torch.where(log_ratio > 0, log_ratio.exp() - 1, log_ratio)

    @staticmethod
    def f(ratio: Tensor) -> Tensor:
        return (ratio - 1) ** 2

    @staticmethod
    def of_gaussian(rho: float) -> float:
        return rho**2 / (1 - rho**2)


class TestMovingAverage:
    def test_gradient_is_the_published_one(self) -> None:
        joint, marginal = (s.requires_grad_() for s in _scores())
        log_average = torch.tensor(0.3, dtype=torch.float64)
        moving_average_donsker_varadhan(joint, marginal, log_average).backward()
        torch.testing.assert_close(joint.grad, torch.full_like(joint, 1 / joint.numel()))
        torch.testing.assert_close(marginal.grad, -(marginal.detach() - 0.3).exp() / marginal.numel())

    def test_equals_donsker_varadhan_at_the_batch_average_and_lies_below_elsewhere(self) -> None:
        joint, marginal = _scores()
        exact, own = donsker_varadhan(joint, marginal), log_mean_exp(marginal)
        assert float(moving_average_donsker_varadhan(joint, marginal, own)) == pytest.approx(float(exact), abs=1e-12)
        for offset in (-2, -0.1, 0.1, 2):
            assert moving_average_donsker_varadhan(joint, marginal, own + offset) < exact

    def test_average_is_of_the_exponentials(self) -> None:
        average = MovingAverage(rate=0.25)
        batches = [_scores(seed)[1] for seed in range(3)]
        means = [float(b.exp().mean()) for b in batches]
        expected = 0.75 * (0.75 * means[0] + 0.25 * means[1]) + 0.25 * means[2]
        for batch in batches:
            running = average.update(batch.requires_grad_())
        assert float(running.exp()) == pytest.approx(expected) and not running.requires_grad

    @pytest.mark.parametrize("rate", [0.0, 1.0, -0.5])
    def test_refuses_a_rate_outside_its_range(self, rate: float) -> None:
        with pytest.raises(InputError, match=r"rate: .* between 0 and 1"):
            MovingAverage(rate)


def _scores(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(11, generator=generator, dtype=torch.float64),
        torch.randn(3, 11, generator=generator, dtype=torch.float64),
    )
