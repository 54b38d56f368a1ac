"""Checkpoints: resumed training is uninterrupted training bit for bit; Ctrl-C; files that do not fit."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from monai.engines.utils import IterationEvents

from medmi.engines.adversarial import TrainingDiverged
from medmi.engines.checkpoints import Checkpoints, load_checkpoint, save_checkpoint
from medmi.engines.options import AdversarialOptions
from medmi.threads import one_thread
from medmi.validation import InputError
from tests.contracts.adversarial import trainer, weights


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


OPTIONS = [
    AdversarialOptions("wgan", n_critic=2),
    AdversarialOptions("wgan", penalty=0, clip=0.05),
    AdversarialOptions("gan_log_d", penalty=0),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["penalty", "clip", "gan"])
def test_resumed_training_is_uninterrupted_training(options, tmp_path):
    whole = trainer(options, max_epochs=4, schedule=True)
    whole.run()
    half = trainer(options, max_epochs=2, schedule=True)
    Checkpoints(tmp_path).run(half)
    resumed = trainer(options, max_epochs=4, schedule=True)
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    resumed.run()
    assert resumed.state.iteration == whole.state.iteration == 12
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed)))
    assert not any(torch.equal(a, b) for a, b in zip(weights(whole)[:1], weights(half)[:1]))


def test_ctrl_c_saves_what_resumes_bit_for_bit(tmp_path):
    whole = trainer(max_epochs=3, schedule=True)
    whole.run()
    stopped, seen = trainer(max_epochs=3, schedule=True), []

    def press(engine):
        seen.append(engine.state.iteration)
        if engine.state.iteration == 5:
            os.kill(os.getpid(), signal.SIGINT)

    stopped.add_event_handler(IterationEvents.FORWARD_COMPLETED, press)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Checkpoints(tmp_path).run(stopped)
    assert seen[-1] == 5 and signal.getsignal(signal.SIGINT) is before
    resumed = trainer(max_epochs=3, schedule=True)
    load_checkpoint(resumed, tmp_path / "checkpoint.pt")
    assert resumed.state.iteration == 5
    resumed.run()
    assert resumed.state.iteration == 9
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed)))


def test_a_complete_training_stays_as_it_is(tmp_path):
    whole = trainer(max_epochs=2)
    Checkpoints(tmp_path).run(whole)
    again = trainer(max_epochs=2)
    load_checkpoint(again, tmp_path / "checkpoint.pt")
    Checkpoints(tmp_path).run(again)
    assert again.state.iteration == 6 and all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again)))


def test_files_hold_no_code_and_replace_each_other_whole(tmp_path):
    training = trainer(max_epochs=1)
    Checkpoints(tmp_path / "new").run(training)
    state = torch.load(tmp_path / "new" / "checkpoint.pt", weights_only=True)
    assert state["progress"]["iteration"] == 3 and state["options"]["game"] == "wgan"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["checkpoint.pt"]


def test_checkpoints_are_written_as_often_as_asked_for(tmp_path):
    training = trainer(max_epochs=5)
    Checkpoints(tmp_path, every=2).run(training)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["iteration"] == 12


def test_divergence_names_the_last_good_checkpoint(tmp_path):
    def late(prediction):
        return prediction.moved.sum() * (float("nan") if training.state.epoch == 2 else 0.0)

    training = trainer(AdversarialOptions(reconstruction_weight=1), max_epochs=3, reconstruction=late)
    with pytest.raises(TrainingDiverged, match=r"iteration 4.*checkpoint\.pt"):
        Checkpoints(tmp_path).run(training)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["iteration"] == 3


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(trainer(), path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="damaged or no checkpoint"):
        load_checkpoint(trainer(), path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is no checkpoint of an adversarial training"):
        load_checkpoint(trainer(), path)
    save_checkpoint(trainer(), path)
    with pytest.raises(InputError, match="other n_critic"):
        load_checkpoint(trainer(AdversarialOptions(n_critic=2)), path)
    with pytest.raises(InputError, match="generator_schedule is not stored"):
        load_checkpoint(trainer(schedule=True), path)
    state = torch.load(path, weights_only=True)
    state["generator"].pop("head.bias")
    torch.save(state, path)
    with pytest.raises(InputError, match="does not fit the trainer's generator"):
        load_checkpoint(trainer(), path)
    with pytest.raises(InputError, match="every: 0"):
        Checkpoints(tmp_path, every=0)
