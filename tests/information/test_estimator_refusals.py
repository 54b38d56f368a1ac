"""What the neural estimator refuses, naming the argument and what came; and how training stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from medmi.information import CriticTraining, MutualInformationNeuralEstimator
from medmi.validation import InputError

SHORT = CriticTraining(steps=1)
X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))


def fit(x: torch.Tensor = X, y: torch.Tensor = X) -> MutualInformationNeuralEstimator:
    return MutualInformationNeuralEstimator(training=SHORT).fit(x, y)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: MutualInformationNeuralEstimator("mien"), "bound: unknown value 'mien'; did you mean 'mine'"),
        (lambda: MutualInformationNeuralEstimator(batch_size=1), "batch_size: 1 came"),
        (lambda: CriticTraining(folds=1), "training.folds: 1 came; at least 2"),
        (lambda: CriticTraining(steps=0), "training.steps: 0"),
        (lambda: CriticTraining(marginals=0), "training.marginals: 0"),
        (lambda: CriticTraining(patience=0), "training.patience: 0"),
        (lambda: CriticTraining(validation=1.0), "training.validation: 1.0"),
        (lambda: CriticTraining(learning_rate=0.0), "training.learning_rate: 0.0"),
        (lambda: fit(X[:, 0], X), r"x: shape \(60,\) came"),
        (lambda: fit(X, X[:50]), "y: 50 samples came with 60 of x"),
        (lambda: fit(X[:30], X[:30]), "x: 30 pairs came; at least 40"),
        (lambda: fit(X, X.log()), "y: values that are not finite"),
        (lambda: fit(X, X[:, :, None]), r"critic: none is known for x \(60, 2\) with y \(60, 2, 1\)"),
        (lambda: fit(X[:, :, None], X[:, :, None, None]), "critic: none is known"),
        (lambda: MutualInformationNeuralEstimator().estimate(X, X), "call fit first"),
        (lambda: fit().estimate(X, X[:, :1]), r"y: shape \(60, 1\) came; \(N, ...\) as in fit's \(60, 2\)"),
        (lambda: fit().estimate(X[:9], X[:9]), "x: 9 pairs came; at least 20"),
        (lambda: fit().estimate(X, X, confidence=1.0), "confidence: 1.0 came"),
        (lambda: fit().estimate(X, X, num_derangements=0), "0 derangements asked"),
    ],
)
def test_refusals_name_the_argument(build: Callable[[], object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        build()


def test_training_stops_early_and_says_how_it_went() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 5, generator=generator), torch.randn(200, 5, generator=generator)
    training = CriticTraining(steps=1000, patience=3)
    estimator = MutualInformationNeuralEstimator("dv", training=training).fit(x, y)
    for history in estimator.history:
        assert len(history) < 20 and history.index(max(history)) == len(history) - 4


def test_folds_marginals_and_batches_are_free() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 1, generator=generator)
    y = x + torch.randn(600, 1, generator=generator)
    training = CriticTraining(folds=3, steps=100, marginals=7)
    estimator = MutualInformationNeuralEstimator("infonce", batch_size=32, training=training).fit(x, y)
    assert len(estimator.critics) == len(estimator.history) == 3
    assert estimator.estimate(x, y).value > 0.2
