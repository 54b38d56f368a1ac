"""MONAI's Ignite handler takes every metric as it is: no handler of our own is needed."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from medmi.metrics import (
    InverseConsistencyMetric,
    JacobianDeterminantMetric,
    MutualInformationMetric,
    NeuralEstimation,
    NeuralMutualInformationMetric,
    NormalizedMutualInformationMetric,
    TargetRegistrationErrorMetric,
)
from tests.oracles.grids import oblique_grid

GRID = oblique_grid((12, 13))


def images(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 2, 1, 12, 13, generator=torch.Generator().manual_seed(seed)))


def points(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 2, 5, 3, generator=torch.Generator().manual_seed(seed)))


def fields(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 2, 2, 12, 13, generator=torch.Generator().manual_seed(seed)) * 0.1)


CASES = {
    "landmarks": (lambda: TargetRegistrationErrorMetric("median"), points),
    "jacobian": (lambda: JacobianDeterminantMetric("min"), lambda s: (fields(s)[0], GRID.affine.expand(2, 3, 3))),
    "consistency": (lambda: InverseConsistencyMetric(GRID, GRID), fields),
    "mi": (lambda: MutualInformationMetric(8), images),
    "nmi": (lambda: NormalizedMutualInformationMetric(8), images),
    "neural": (lambda: NeuralMutualInformationMetric(NeuralEstimation("jsd")), images),
}


@pytest.mark.parametrize("case", CASES)
def test_engine_records_the_mean_over_batches_and_each_samples_value(case):
    make, batch = CASES[case]
    alone = make()
    for seed in (0, 1):
        alone(*batch(seed))
    engine = Engine(lambda _, seed: batch(seed))
    IgniteMetricHandler(metric_fn=make()).attach(engine, case)
    state = engine.run([0, 1])
    assert state.metrics[case] == pytest.approx(alone.aggregate().item())
    assert torch.equal(state.metric_details[case], alone.get_buffer())
    assert state.metric_details[case].shape == (4, 1)
