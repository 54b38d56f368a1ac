"""Training batches and validation: explicit pairs, repeatable by number, true errors in mm, early stop, refusals."""

from __future__ import annotations

import pytest
import torch

from medmi.engines.batches import PairBatches
from medmi.engines.stopping import EarlyStop, error_mm
from medmi.networks import ModernRegistrationGenerator, SpatialTransformer
from medmi.simulation.pairs import Extent, TrainingPairs
from medmi.simulation.threads import one_thread
from medmi.validation import InputError
from tests.contracts.adversarial import GRID, batches, blobs, trainer

PAIRS = TrainingPairs(GRID, SpatialTransformer(GRID, GRID), extent=Extent(10, 6))


def test_a_batch_is_a_function_of_seed_and_number():
    stream = iter(batches())
    first, second = next(stream), next(stream)
    assert all(torch.equal(second[k], batches().batch(1)[k]) for k in second)
    assert not torch.equal(first["moving"], second["moving"])
    assert not torch.equal(first["moving"], batches(seed=1).batch(0)["moving"])


def test_shapes_and_truth():
    batch = PairBatches(blobs(6), PAIRS, 4, 3).batch(0)
    assert batch["truth"].shape == (4, 3, 3)
    assert all(batch[k].shape == (4, 1, 20, 24) for k in batch if k != "truth")
    back = SpatialTransformer(GRID, GRID)(batch["moving"], batch["truth"])
    inside = back != 0
    # Aligned blobs are one affine function of each other: dark is half of what bright lacks.
    expected = (batch["fixed"].amax((1, 2, 3), keepdim=True) - batch["fixed"]) * 0.5
    assert float((back - expected)[inside].abs().mean()) < 0.02
    assert float((batch["moving"] - expected).abs().mean()) > 0.05


def test_registered_examples_are_other_draws_in_place():
    batch = PairBatches(blobs(60), PAIRS, 8, 3).batch(0)
    fixed, moving = batch["registered_fixed"], batch["registered_moving"]
    expected = (fixed.amax((1, 2, 3), keepdim=True) - fixed) * 0.5
    inside = moving != 0
    assert float((moving - expected)[inside].abs().mean()) < 0.02
    assert not any(torch.equal(a, b) for a, b in zip(fixed, batch["fixed"]))


def test_a_stream_goes_on_from_a_stored_number():
    stream, other = batches(), batches()
    walking = iter(stream)
    for _ in range(5):
        next(walking)
    other.load_state_dict(stream.state_dict())
    assert torch.equal(next(iter(other))["moving"], next(walking)["moving"])


@pytest.mark.parametrize(
    ("name", "arguments"), [("aligned", ([], PAIRS, 1, 1)), ("batch_size", (blobs(1), PAIRS, 0, 1))]
)
def test_bad_settings_are_refused(name, arguments):
    with pytest.raises(InputError, match=f"{name}: 0"):
        PairBatches(*arguments)


def test_error_of_the_identity_is_the_mean_motion_of_the_foreground():
    batch = batches(5, 1).batch(0)
    network = ModernRegistrationGenerator(2, widths=(4, 8))
    errors = []
    for truth, image in zip(batch["truth"], batch["fixed"][:, 0]):
        index = (image > image.mean()).nonzero().double()
        points = index * 2 - torch.tensor([19.0, 23.0], dtype=torch.float64)
        errors.append(float((points @ truth[:2, :2].T + truth[:2, 2] - points).norm(dim=1).mean()))
    assert error_mm(network, [batch], GRID) == pytest.approx(sum(errors) / 5, rel=1e-6)
    assert network.training
    with pytest.raises(InputError, match="batches: none"):
        error_mm(network, [], GRID)


def test_training_ends_when_the_error_no_longer_falls():
    with one_thread():
        training = trainer(max_epochs=9)
        for group in training.players.generator_optimizer.param_groups:
            group["lr"] = 0.0
        EarlyStop([batches(4, 1, seed=3).batch(0)], patience=2).attach(training)
        training.run()
    assert training.state.epoch == 3 and training.state.best_metric_epoch == 1
    assert training.state.metrics["error_mm"] == training.state.best_metric > 0
    with pytest.raises(InputError, match="patience: 0"):
        EarlyStop([], 0)
