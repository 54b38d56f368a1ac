"""Validation: true errors in mm against points written out, success by passes, early stop, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmi.engines.stopping import EarlyStop, error_mm, pose_errors_mm
from medmi.networks import ModernRegistrationGenerator
from medmi.threads import one_thread
from medmi.validation import InputError
from tests.contracts.adversarial import GRID, batches, trainer

GRIDS = (GRID, GRID)


def written_out(truth: torch.Tensor, image: torch.Tensor) -> float:
    """Mean length of ``truth(x) - x`` over the voxels above the mean, by numpy."""
    index = np.argwhere((image > image.mean()).numpy())
    points = index * 2.0 - np.array([19.0, 23.0])
    matrix = truth.numpy()
    return float(np.linalg.norm(points @ matrix[:2, :2].T + matrix[:2, 2] - points, axis=1).mean())


def test_error_of_the_identity_is_the_mean_motion_of_the_foreground():
    """Views are rigid, so that distances in the source's world are those in the fixed one's."""
    batch = batches(5, 1).batch(0)
    network = ModernRegistrationGenerator(2, widths=(4, 8))
    expected = [written_out(truth, image[0]) for truth, image in zip(batch["truth"], batch["fixed"])]
    errors = pose_errors_mm(network, [batch], GRIDS, passes=2)
    assert errors.shape == (3, 5)
    for row in errors:
        assert row.tolist() == pytest.approx(expected, rel=1e-6)
    assert error_mm(network, [batch], GRIDS) == pytest.approx(sum(expected) / 5, rel=1e-6)
    assert network.training
    with pytest.raises(InputError, match="batches: none"):
        error_mm(network, [], GRIDS)
    with pytest.raises(InputError, match="passes: 0"):
        error_mm(network, [batch], GRIDS, passes=0)


def still(max_epochs: int = 9):
    """A training whose generator never moves."""
    training = trainer(max_epochs=max_epochs)
    for group in training.players.generator_optimizer.param_groups:
        group["lr"] = 0.0
    return training


def test_training_ends_when_the_error_no_longer_falls():
    with one_thread():
        training = still()
        EarlyStop([batches(4, 1, seed=3).batch(0)], patience=2).attach(training)
        training.run()
    assert training.state.epoch == 3 and training.state.best_metric_epoch == 1
    assert training.state.metrics["error_mm"] == training.state.best_metric > 0
    with pytest.raises(InputError, match="patience: 0"):
        EarlyStop([], 0)


def test_without_patience_it_only_measures():
    with one_thread():
        training = still(max_epochs=4)
        EarlyStop([batches(4, 1, seed=3).batch(0)], patience=None).attach(training)
        training.run()
    assert training.state.epoch == 4 and training.state.metrics["error_mm"] > 0
