"""Mutual information metrics against scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import mutual_info_score

from medmi.metrics import (
    MutualInformationMetric,
    NormalizedMutualInformationMetric,
    compute_mutual_information,
)
from medmi.validation import InputError

METRICS = [MutualInformationMetric, NormalizedMutualInformationMetric]


def levels(*shape: int, seed: int, count: int = 8) -> torch.Tensor:
    """Whole numbers 0 ... count - 1 in every sample and channel, so that bins hold counts."""
    values = torch.randint(0, count, shape, generator=torch.Generator().manual_seed(seed))
    values.flatten(2)[..., :count] = torch.arange(count)
    return values.double()


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Dependent images ``(2, 3, 19, 23)``."""
    x = levels(2, 3, 19, 23, seed=seed)
    return x, (x // 2 + levels(2, 3, 19, 23, seed=seed + 1)).clamp_max(7)


def normalised(x: np.ndarray, y: np.ndarray) -> float:
    entropies = [scipy.stats.entropy(np.unique(v, return_counts=True)[1]) for v in (x, y, x * 100 + y)]
    return (entropies[0] + entropies[1]) / entropies[2]


def test_value_is_scikit_learns_for_each_sample_and_channel():
    x, y = pair()
    found = compute_mutual_information(x, y, num_bins=8)
    assert found.shape == (2, 3) and found.dtype == torch.float64
    expected = [[mutual_info_score(a.flatten(), b.flatten()) for a, b in zip(*sample)] for sample in zip(x, y)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(("metric", "oracle"), list(zip(METRICS, [mutual_info_score, normalised])))
def test_metrics_agree_with_their_oracles_as_batches_and_lists(metric, oracle):
    x, y = pair()
    expected = np.mean([oracle(a.flatten().numpy(), b.flatten().numpy()) for s in zip(x, y) for a, b in zip(*s)])
    for arguments in ((x, y), (list(x), list(y))):
        one = metric(num_bins=8)
        one(*arguments)
        assert one.aggregate().item() == pytest.approx(expected)


def test_ends_of_both_scores():
    x = levels(1, 1, 30, 30, seed=3)
    entropy = scipy.stats.entropy(np.unique(x, return_counts=True)[1])
    table = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).T
    for other, mutual, normal in ((7 - x, entropy, 2.0), (torch.zeros_like(x), 0.0, 1.0)):
        for metric, expected in zip(METRICS, (mutual, normal)):
            assert metric(num_bins=8)(x, other).item() == pytest.approx(expected, abs=1e-9)
    assert (
        compute_mutual_information(table[0].reshape(1, 1, 8, 8), table[1].reshape(1, 1, 8, 8), 8).abs().item() < 1e-12
    )


@pytest.mark.parametrize("window", ["linear", "bspline", "gaussian"])
def test_bias_by_window_stays_below_the_truth_for_coarse_bins(window):
    source = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 20_000)
    x, y = torch.from_numpy(source.T.copy()).reshape(2, 1, 1, 100, 200)
    values = [compute_mutual_information(x, y, bins, window).item() for bins in (8, 16, 32)]
    assert 0 < values[0] < values[1] < values[2] < -0.5 * math.log(1 - 0.8**2)


def test_mask_is_the_crop():
    x, y = pair()
    mask = torch.zeros(2, 1, 19, 23)
    mask[:, :, 2:15, 3:20] = 1
    masked = compute_mutual_information(x, y, 8, mask=mask)
    torch.testing.assert_close(masked, compute_mutual_information(x[..., 2:15, 3:20], y[..., 2:15, 3:20], 8))
    metric = MutualInformationMetric(8)
    torch.testing.assert_close(metric(x, y, mask=mask), masked)


def test_range_sets_the_bins():
    x, y = pair()
    wide = compute_mutual_information(x, y, 8, value_range=(0, 70))
    assert bool((wide < compute_mutual_information(x, y, 8)).all())
    metric = NormalizedMutualInformationMetric(8, "linear", (0, 7), reduction="none")
    metric(x, y)
    torch.testing.assert_close(metric.aggregate(), NormalizedMutualInformationMetric(8)(x, y))


@pytest.mark.parametrize("metric", METRICS)
def test_bad_input_is_refused(metric):
    x, y = pair()
    with pytest.raises(InputError, match=r"pred has shape \(2, 3, 19, 23\) but target \(1, 3, 19, 23\)"):
        metric()(x, y[:1])
    with pytest.raises(InputError, match="mask is empty"):
        metric()(x, y, mask=torch.zeros(2, 1, 19, 23))
    with pytest.raises(InputError, match="y: no second image"):
        metric()(x)
    with pytest.raises(InputError, match="num_bins"):
        metric(1)
    with pytest.raises(InputError, match="window: unknown value 'liner'; did you mean 'linear'"):
        metric(window="liner")
    with pytest.raises(InputError, match="value_range"):
        metric(value_range=(3, 1))
    with pytest.raises(InputError, match="reduction"):
        metric(reduction="nan")
