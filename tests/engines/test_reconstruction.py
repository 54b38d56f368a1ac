"""Reconstruction losses by name: what each compares, MINE's critic, a checkpoint that keeps it, refusals."""

from __future__ import annotations

import pytest
import torch

from medmi.engines.adversarial import Prediction
from medmi.engines.checkpoints import load_checkpoint, save_checkpoint
from medmi.engines.options import AdversarialOptions
from medmi.engines.reconstruction import RECONSTRUCTIONS, reconstruction_loss
from medmi.threads import one_thread
from medmi.validation import InputError
from tests.contracts.adversarial import GRID, batches, trainer, weights

ALONE = AdversarialOptions(adversarial_weight=0, reconstruction_weight=1)


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def prediction(aligned: bool) -> Prediction:
    batch = batches(4, 1).batch(0)
    moving = batch["registered_moving"] if aligned else batch["registered_moving"].flip(2)
    identity = torch.eye(3, dtype=torch.float64).repeat(4, 1, 1)
    shifted = identity.clone()
    shifted[:, 0, 2] = 0.0 if aligned else 5.0
    return Prediction(batch["registered_fixed"], moving, shifted, identity)


@pytest.mark.parametrize("name", ["supervised", "mi"])
def test_aligned_pairs_lose_less(name):
    loss = reconstruction_loss(name, GRID).loss
    assert float(loss(prediction(True))) < float(loss(prediction(False))) - 0.1


def test_none_is_nothing():
    assert float(reconstruction_loss("none", GRID).loss(prediction(False))) == 0


@pytest.mark.parametrize("name", [name for name in RECONSTRUCTIONS if name != "none"])
def test_each_trains_without_a_discriminator(name):
    reconstruction = reconstruction_loss(name, GRID)
    training = trainer(ALONE, max_epochs=1, reconstruction=reconstruction.loss)
    before = [p.detach().clone() for p in training.players.generator.parameters()]
    training.run()
    assert not all(torch.equal(a, b) for a, b in zip(before, training.players.generator.parameters()))
    assert (reconstruction.learns is not None) == (name == "mine")


def with_mine(epochs: int = 1):
    torch.manual_seed(11)  # the critic's first weights
    reconstruction = reconstruction_loss("mine", GRID)
    training = trainer(ALONE, max_epochs=epochs, reconstruction=reconstruction.loss)
    training.players.generator_optimizer.add_param_group({"params": list(reconstruction.learns.parameters())})
    training.players.companion = reconstruction.learns
    return training


def test_mines_critic_learns_and_is_kept(tmp_path):
    training = with_mine()
    before = [p.detach().clone() for p in training.players.companion.parameters()]
    training.run()
    after = list(training.players.companion.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after))
    save_checkpoint(training, tmp_path / "c.pt")
    other = with_mine()
    load_checkpoint(other, tmp_path / "c.pt")
    assert all(torch.equal(a, b) for a, b in zip(after, other.players.companion.parameters()))
    with pytest.raises(InputError, match="companion is stored"):
        load_checkpoint(trainer(ALONE), tmp_path / "c.pt")


def test_resumed_training_with_mine_is_uninterrupted_training(tmp_path):
    whole = with_mine(4)
    whole.run()
    half = with_mine(2)
    half.run()
    save_checkpoint(half, tmp_path / "c.pt")
    resumed = with_mine(4)
    load_checkpoint(resumed, tmp_path / "c.pt")
    resumed.run()
    assert resumed.state.iteration == whole.state.iteration > half.state.iteration
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed)))
    critics = (training.players.companion.parameters() for training in (whole, resumed))
    assert all(torch.equal(a, b) for a, b in zip(*critics))


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="did you mean 'supervised'"):
        reconstruction_loss("supervise", GRID)
