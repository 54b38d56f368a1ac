"""The neural estimator on samples with known mutual information; held-out honesty, repeatability, options."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medmi.information import BOUNDS, CriticTraining, MutualInformationNeuralEstimator
from medmi.networks import StatisticsNetwork
from medmi.threads import one_thread
from tests.contracts.bounds import gaussian_jensen_shannon

SHORT = CriticTraining(steps=150)


def gaussian_pair(size: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(size, 1, generator=generator), torch.randn(size, 1, generator=generator)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def true_ratio_estimate(x: Tensor, y: Tensor, rho: float) -> float:
    """Donsker-Varadhan with the true density ratio on these very samples, mean over 20 shifts."""

    def log_ratio(u: Tensor, v: Tensor) -> Tensor:
        form = (rho**2 * (u**2 + v**2) - 2 * rho * u * v) / (2 * (1 - rho**2))
        return -0.5 * math.log(1 - rho**2) - form

    shifted = [log_ratio(x, y.roll(37 * k + 1, 0)).exp().mean().log() for k in range(20)]
    return float(log_ratio(x, y).mean() - torch.stack(shifted).mean())


@pytest.mark.parametrize("bound", BOUNDS)
def test_value_is_mutual_information_whatever_the_bound(bound: str) -> None:
    x, y = gaussian_pair(3000, 0.6, seed=0)
    unseen = gaussian_pair(3000, 0.6, seed=1)
    estimate = MutualInformationNeuralEstimator(bound, training=SHORT).fit(x, y).estimate(*unseen)
    assert estimate.value == pytest.approx(true_ratio_estimate(*unseen, 0.6), abs=0.03)
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize(
    ("bound", "divergence"),
    [
        ("dv", -0.5 * math.log(0.75)),
        ("jsd", gaussian_jensen_shannon(0.5)),
        ("hellinger", 2 - 2 * 0.75**0.25 / (1 - 0.25 / 4) ** 0.5),
        ("chi2", 1 / 3),
        ("infonce", -0.5 * math.log(0.75)),
    ],
)
def test_divergence_is_the_trained_bounds_own(bound: str, divergence: float) -> None:
    estimator = MutualInformationNeuralEstimator(bound, training=SHORT).fit(*gaussian_pair(3000, 0.5, seed=0))
    assert estimator.estimate(*gaussian_pair(6000, 0.5, seed=1)).divergence == pytest.approx(divergence, rel=0.15)


class ByHeart(nn.Module):
    """Scores 5 for the true pairs (here y = x) of its own fold, 0 for all else."""

    def __init__(self, fold: Tensor) -> None:
        super().__init__()
        self.fold = fold

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (5.0 * (torch.isin(x, self.fold) & (x == y)))[:, 0]


def test_training_arrays_are_cross_fitted() -> None:
    x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    estimator = MutualInformationNeuralEstimator("jsd", training=CriticTraining(steps=1)).fit(x, x)
    scaled = estimator._scaled(x, x)[0]
    estimator.critics = [ByHeart(scaled[part]) for part in estimator._parts]
    assert abs(estimator.estimate(x, x).value) < 1e-12
    assert estimator.estimate(x.flip(0), x.flip(0)).value > 1, "another order is not recognised"


def test_independent_pairs_give_nothing() -> None:
    for bound in ("mine", "infonce"):
        x, y = gaussian_pair(2000, 0.0, seed=3)
        estimate = MutualInformationNeuralEstimator(bound, training=SHORT).fit(x, y).estimate(x, y)
        assert abs(estimate.value) < 0.01


def test_units_and_offsets_change_nothing() -> None:
    x, y = gaussian_pair(1000, 0.8, seed=0)
    x, y = x.double(), y.double()
    plain = MutualInformationNeuralEstimator(training=SHORT).fit(x, y).estimate(x, y)
    x, y = 1e-3 * x + 5, 4000 * y - 1e6
    scaled = MutualInformationNeuralEstimator(training=SHORT).fit(x, y).estimate(x, y)
    assert scaled.value == pytest.approx(plain.value, abs=5e-3)


def test_same_seed_same_bits_at_any_number_of_threads_and_the_global_generator_is_left_alone() -> None:
    x, y = gaussian_pair(500, 0.5, seed=0)
    state, before, found = torch.get_rng_state(), torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(MutualInformationNeuralEstimator(seed=7, training=SHORT).fit(x, y).estimate(x, y))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    other = MutualInformationNeuralEstimator(seed=8, training=SHORT).fit(x, y).estimate(x, y)
    assert found[0] == found[1] != other
    assert torch.equal(state, torch.get_rng_state())


def test_given_critic_is_copied_and_kept_as_it_was() -> None:
    torch.manual_seed(0)
    critic = StatisticsNetwork(hidden=(20,)).requires_grad_(False)
    weight = critic.layers[0].weight.clone()
    x, y = gaussian_pair(1000, 0.8, seed=0)
    estimator = MutualInformationNeuralEstimator("jsd", critic, training=SHORT).fit(x, y)
    assert torch.equal(critic.layers[0].weight, weight) and not critic.layers[0].weight.requires_grad
    assert estimator.estimate(x, y).value > 0.15


def test_arrays_integers_and_progress_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    table = np.array([[0.4, 0.1], [0.1, 0.4]])
    drawn = np.random.default_rng(0).choice(4, 4000, p=table.ravel())
    x, y = (drawn // 2)[:, None].astype(np.int16), (drawn % 2)[:, None].astype(np.int64)
    estimator = MutualInformationNeuralEstimator("nwj", training=SHORT, progress=True).fit(x, y)
    assert estimator.estimate(x, y).value == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4), abs=0.03)
    assert "nwj critics" in capsys.readouterr().out


@one_thread()
def test_images_have_default_critics() -> None:
    """Square left or right, and bright or dark on the same side: one bit."""
    generator = torch.Generator().manual_seed(0)
    side = torch.randint(2, (400,), generator=generator)
    x, y = (0.1 * torch.rand(400, 1, 8, 8, generator=generator) for _ in range(2))
    x[side == 0, :, 2:6, :4] += 1
    x[side == 1, :, 2:6, 4:] += 1
    y[side == 1] += 1
    training = CriticTraining(steps=75, learning_rate=2e-3, marginals=1)
    values = 2.0 * side[:, None] + torch.rand(400, 1, generator=generator)
    for partner in (y, values):
        estimator = MutualInformationNeuralEstimator("jsd", batch_size=64, training=training).fit(x, partner)
        assert estimator.estimate(x, partner).value == pytest.approx(math.log(2), abs=0.05)


def test_constant_input_has_no_information() -> None:
    x, y = gaussian_pair(500, 0.5, seed=0)
    estimate = MutualInformationNeuralEstimator(training=SHORT).fit(torch.full_like(x, 0.1), y).estimate(x * 0 + 0.1, y)
    assert abs(estimate.value) < 0.01


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    class TrueRatio(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.gain * (2 / 3 * x * y - (x**2 + y**2) / 6)[:, 0]

    still = CriticTraining(steps=1, learning_rate=1e-9)
    estimator = MutualInformationNeuralEstimator("dv", TrueRatio(), training=still).fit(*gaussian_pair(4000, 0.5, 0))
    truth = -0.5 * math.log(0.75)
    for confidence, least, most in ((0.95, 54, 60), (0.5, 20, 41)):
        found = [estimator.estimate(*gaussian_pair(1000, 0.5, 1 + s), confidence=confidence) for s in range(60)]
        assert least <= sum(e.low <= truth <= e.high for e in found) <= most


def test_more_derangements_tighten_the_spread() -> None:
    x, y = gaussian_pair(500, 0.8, seed=0)
    estimator = MutualInformationNeuralEstimator("jsd", training=SHORT).fit(x, y)
    few, many = estimator.estimate(x, y, num_derangements=2), estimator.estimate(x, y, num_derangements=40)
    assert few.value != many.value and many.high - many.low < few.high - few.low


def test_fits_inside_an_evaluation_loop_that_keeps_no_gradients() -> None:
    x, y = gaussian_pair(400, 0.9, seed=3)
    training = CriticTraining(steps=40)
    outside = MutualInformationNeuralEstimator("mine", training=training).fit(x, y).estimate(x, y)
    with torch.no_grad():
        inside = MutualInformationNeuralEstimator("mine", training=training).fit(x, y).estimate(x, y)
    assert inside == outside
