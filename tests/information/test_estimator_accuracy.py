"""The promise of the estimators: from 10,000 pairs near what the true density ratio gives, not above the truth."""

from __future__ import annotations

import math

import pytest

from medmi.information import MutualInformationNeuralEstimator
from tests.information.test_estimator import gaussian_pair, true_ratio_estimate


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["mine", "nwj", "jsd", "infonce", "smile"])
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.7, 0.9])
def test_near_the_true_ratio_and_not_above_the_truth(bound: str, rho: float) -> None:
    truth, above = -0.5 * math.log(1 - rho**2), []
    for seed in range(3):
        estimator = MutualInformationNeuralEstimator(bound, seed=seed).fit(*gaussian_pair(10_000, rho, seed))
        unseen = gaussian_pair(10_000, rho, 999 + seed)
        value = estimator.estimate(*unseen).value
        assert value == pytest.approx(true_ratio_estimate(*unseen, rho), abs=max(0.02, 0.05 * truth))
        above.append(value - truth)
    assert sum(above) / len(above) < 0.02
    if rho == 0:
        assert max(map(abs, above)) < 0.01
