"""InfoNCE against min(I, log N), and SMILE as the biased estimator that it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medmi.information.bounds import BOUNDS, MovingAverage, infonce, jensen_shannon, smile
from medmi.information.pairs import all_pairs
from tests.contracts.bounds import gaussian_law, table_divergence, table_law


def matrix_infonce(scores: Tensor) -> float:
    """The dense twin: cross-entropy of a softmax along each row of the N x N scores."""
    return float(torch.log_softmax(scores, 1).diagonal().mean()) + math.log(len(scores))


def batch_scores(rho: float, size: int, generator: torch.Generator) -> Tensor:
    """The exact log density ratios of all pairs of one batch: ``(size, size)``."""
    x = torch.randn(size, generator=generator, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * torch.randn(size, generator=generator, dtype=torch.float64)
    return gaussian_law(rho, side=2).log_ratio(torch.stack([x[:, None].expand(-1, size), y.expand(size, -1)], -1))


def split(scores: Tensor) -> tuple[Tensor, Tensor]:
    pairing = all_pairs(len(scores))
    return scores.diagonal(), scores[torch.arange(len(scores)), pairing]


class TestInfoNCE:
    def test_equals_the_softmax_of_the_score_matrix(self) -> None:
        scores = torch.randn(7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        assert float(infonce(*split(scores))) == pytest.approx(matrix_infonce(scores), abs=1e-12)

    @pytest.mark.parametrize(("rho", "size"), [(0.0, 64), (0.5, 64), (0.9, 64), (0.999, 8), (0.99999, 16)])
    def test_mean_stays_below_information_and_log_n(self, rho: float, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        values = torch.stack([infonce(*split(batch_scores(rho, size, generator))) for _ in range(300)])
        information = -0.5 * math.log(1 - rho**2)
        noise = 3 * float(values.std()) / math.sqrt(len(values))
        assert float(values.max()) <= math.log(size) + 1e-12
        assert float(values.mean()) <= min(information, math.log(size)) + noise
        assert float(values.mean()) >= 0.7 * min(information, math.log(size)) - noise

    def test_a_function_of_what_is_kept_changes_nothing(self) -> None:
        generator = torch.Generator().manual_seed(2)
        scores, offset = batch_scores(0.7, 9, generator), torch.randn(9, 1, generator=generator, dtype=torch.float64)
        assert float(infonce(*split(scores + offset))) == pytest.approx(float(infonce(*split(scores))), abs=1e-12)

    @pytest.mark.parametrize("scale", [1.0, 100.0, 1e6])
    def test_scaled_critics_stay_below_log_n(self, scale: float) -> None:
        scores = batch_scores(0.9, 32, torch.Generator().manual_seed(3))
        assert float(infonce(*split(scale * scores))) <= math.log(32)


class TestSmile:
    def test_exceeds_the_truth_by_what_the_clip_removes(self) -> None:
        law, clip = table_law(), 0.4
        joint, marginal = law.scores(law.log_ratio)
        excess = -math.log(float(marginal.exp().clamp(math.exp(-clip), math.exp(clip)).mean()))
        truth = table_divergence(lambda r: r * r.log())
        assert excess > 0
        assert float(smile(joint, marginal, clip)) == pytest.approx(truth + excess, abs=1e-12)

    def test_without_a_clip_is_donsker_varadhan(self) -> None:
        law = table_law()
        joint, marginal = law.scores(law.log_ratio)
        unclipped = float(smile(joint, marginal, math.inf))
        assert unclipped == pytest.approx(float(BOUNDS["dv"].value(joint, marginal)), abs=1e-12)

    def test_is_no_bound(self) -> None:
        law = table_law()
        joint, marginal = law.scores(lambda at: 100 * law.log_ratio(at))
        assert float(smile(joint, marginal)) > 10 * table_divergence(lambda r: r * r.log())

    def test_is_trained_as_published_by_jensen_shannon(self) -> None:
        law = table_law()
        scores = law.scores(law.log_ratio)
        assert float(BOUNDS["smile"].train_on(*scores, MovingAverage())) == float(jensen_shannon(*scores))
