"""The neural metric against the closed form of Gaussian pairs; its options, its repeatability, its refusals."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch

from medmi.metrics import NeuralEstimation, NeuralMutualInformationMetric, compute_neural_mutual_information
from medmi.validation import InputError


def gaussian_pair(rho: float, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(5)
    x, noise = torch.randn(2, 1, channels, 40, 50, generator=source)
    return x, rho * x + (1 - rho**2) ** 0.5 * noise


def truth(rho: float) -> float:
    return -0.5 * math.log(1 - rho**2)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_estimate_is_near_the_truth(rho):
    found = compute_neural_mutual_information(*gaussian_pair(rho))
    assert found.shape == (1, 1) and found.dtype == torch.float64
    assert found.item() == pytest.approx(truth(rho), abs=0.08)


def test_channels_form_one_vector():
    settings = NeuralEstimation(bound="jsd")
    found = compute_neural_mutual_information(*gaussian_pair(0.8, channels=2), settings=settings)
    assert found.shape == (1, 1) and found.item() == pytest.approx(2 * truth(0.8), abs=0.2)


def test_metric_takes_mask_number_of_voxels_and_seed_and_repeats_itself():
    x, y = gaussian_pair(0.9)
    x[..., :10, :] = 1e3
    mask = torch.ones(1, 1, 40, 50)
    mask[..., :10, :] = 0
    metric = NeuralMutualInformationMetric(NeuralEstimation("jsd", num_samples=400, seed=3), reduction="none")
    first, second = metric(x, y, mask=mask), metric(x, y, mask=mask)
    assert torch.equal(first, second) and torch.equal(metric.aggregate(), torch.cat([first, first]))
    assert first.item() == pytest.approx(truth(0.9), abs=0.25)
    other = NeuralMutualInformationMetric(NeuralEstimation("jsd", num_samples=400, seed=4))
    assert not torch.equal(first, other(x, y, mask=mask))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, contextlib.nullcontext])
def test_critic_learns_inside_evaluation_loops(mode):
    settings = NeuralEstimation("jsd", num_samples=300)
    expected = compute_neural_mutual_information(*gaussian_pair(0.9), settings=settings)
    with mode():
        x, y = gaussian_pair(0.9)
        assert torch.equal(compute_neural_mutual_information(x, y, settings=settings), expected)


def test_bad_input_is_refused():
    x, y = gaussian_pair(0.5)
    with pytest.raises(InputError, match="y: no second image"):
        NeuralMutualInformationMetric()(x)
    with pytest.raises(InputError, match="pred has shape"):
        NeuralMutualInformationMetric()(x, y[..., :20])
    with pytest.raises(InputError, match="mask is empty"):
        NeuralMutualInformationMetric()(x, y, mask=torch.zeros(1, 1, 40, 50))
    with pytest.raises(InputError, match="bound: unknown value"):
        compute_neural_mutual_information(x, y, settings=NeuralEstimation("mina"))
    with pytest.raises(InputError, match="num_samples: 0 came"):
        compute_neural_mutual_information(x, y, settings=NeuralEstimation(num_samples=0))
    with pytest.raises(InputError, match="pairs came"):
        compute_neural_mutual_information(x[..., :2, :2], y[..., :2, :2])
