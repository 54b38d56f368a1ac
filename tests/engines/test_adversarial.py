"""The adversarial trainer: what moves when, events, losses, baselines without discriminator, refusals, divergence."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import AdversarialIterationEvents

from medmi.engines.adversarial import Prediction, TrainingDiverged, moved_once, supervised_loss
from medmi.engines.options import AdversarialOptions, generator_optimizer, optimizer_for, warm_cosine
from medmi.engines.stopping import error_mm
from medmi.losses import MutualInformationLoss
from medmi.spatial.replicate import resample_replicated
from medmi.threads import one_thread
from medmi.validation import InputError
from tests.contracts.adversarial import GRID, batches, players, trainer, weights


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


GAMES = [
    AdversarialOptions("gan", penalty=0.0),
    AdversarialOptions("gan_log_d", penalty=0.0),
    AdversarialOptions("wgan"),
    AdversarialOptions("wgan", penalty=0.0, clip=0.05, n_critic=2),
    AdversarialOptions("hellinger", penalty=1.0),
]


@pytest.mark.parametrize("options", GAMES, ids=lambda o: f"{o.game}-{o.n_critic}")
def test_every_game_moves_both_networks_and_reports_its_losses(options):
    training = trainer(options, max_epochs=1)
    before = weights(training)
    training.run()
    generator_size = len(list(training.players.generator.parameters()))
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(training))]
    assert any(moved[:generator_size]) and any(moved[generator_size:])
    for key in ("loss", "generator_loss", "discriminator_loss", "reconstruction_loss"):
        assert math.isfinite(float(training.state.output[key])) and not training.state.output[key].requires_grad
    if options.clip is not None:
        assert (
            max(float(p.detach().abs().max()) for p in training.players.discriminator.parameters())
            <= options.clip + 1e-6
        )


def test_every_event_fires_as_often_as_its_step():
    training, counts = trainer(AdversarialOptions(n_critic=2), max_epochs=1), Counter()
    watched = [*AdversarialIterationEvents]
    watched += [getattr(IterationEvents, f"{n}_COMPLETED") for n in ("FORWARD", "LOSS", "BACKWARD", "MODEL")]
    for event in watched:
        training.add_event_handler(event, lambda _, name=event.name: counts.update([name]))
    training.run()
    expected = {e.name: 6 if e.name.startswith("DISCRIMINATOR") else 3 for e in watched}
    assert counts == expected


def test_supervised_training_alone_lowers_the_error_and_leaves_the_discriminator():
    options = AdversarialOptions(adversarial_weight=0, reconstruction_weight=1)
    training = trainer(options, max_epochs=8, stream=batches(8, 8), reconstruction=supervised_loss(GRID))
    training.players.generator_optimizer = torch.optim.Adam(training.players.generator.parameters(), 3e-3)
    held_out = [batches(16, 1, seed=5).batch(0)]
    before = error_mm(training.players.generator, held_out, (GRID, GRID))
    discriminator = [p.detach().clone() for p in training.players.discriminator.parameters()]
    training.run()
    assert error_mm(training.players.generator, held_out, (GRID, GRID)) < 0.8 * before
    assert all(torch.equal(a, b) for a, b in zip(discriminator, training.players.discriminator.parameters()))


def test_a_similarity_may_stand_in_for_the_discriminator():
    similarity = MutualInformationLoss()
    options = AdversarialOptions(adversarial_weight=0, reconstruction_weight=1)
    training = trainer(options, max_epochs=1, reconstruction=lambda p: similarity(p.moved, p.fixed))
    training.run()
    assert float(training.state.output["loss"]) < 0


def test_both_losses_add_up_by_their_weights():
    options = AdversarialOptions(adversarial_weight=0.5, reconstruction_weight=2)
    training = trainer(options, max_epochs=1, reconstruction=supervised_loss(GRID))
    training.run()
    out = training.state.output
    assert float(out["loss"]) == pytest.approx(
        0.5 * float(out["generator_loss"]) + 2 * float(out["reconstruction_loss"])
    )


def test_supervised_loss_is_the_mean_distance_of_a_box_half_as_long():
    """By a turn about the middle of angle a: 2 sin(a / 2) times the box's half diagonal, at every corner."""
    identity, angle = torch.eye(3, dtype=torch.float64)[None], 0.3
    turn = torch.linalg.matrix_exp(angle * torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64))
    image = torch.zeros(1, 1, 20, 24)
    expected = 2 * math.sin(angle / 2) * math.hypot(19, 23) / 2
    assert float(supervised_loss(GRID)(Prediction(image, image, identity, turn[None]))) == pytest.approx(expected)


def test_supervised_loss_of_a_shift_is_its_length():
    identity = torch.eye(3, dtype=torch.float64)[None]
    shifted = identity.clone()
    shifted[0, :2, 2] = torch.tensor([3.0, 4.0])
    image = torch.zeros(1, 1, 20, 24)
    assert float(supervised_loss(GRID)(Prediction(image, image, identity, shifted))) == pytest.approx(5)


def test_a_second_pass_trains_on_what_the_first_has_moved():
    """Of six samples the first half starts at the network's own result, and what is left to find is the rest."""
    training = trainer(AdversarialOptions(second_pass=0.5), max_epochs=1)
    generator = training.players.generator
    torch.nn.init.constant_(generator.head.bias, 0.2)
    part = batches(6, 1).batch(0)
    moved = moved_once(training, part)
    once = generator.matrix(part["fixed"][:3], part["moving"][:3], GRID).detach()
    torch.testing.assert_close(moved["start"][:3], part["start"][:3] @ once)
    assert all(torch.equal(moved[key][3:], part[key][3:]) for key in ("start", "truth", "moving"))
    torch.testing.assert_close(moved["start"] @ moved["truth"], part["start"] @ part["truth"])
    torch.testing.assert_close(moved["moving"], resample_replicated(part["source"], GRID, moved["start"], GRID))
    assert not any(value.requires_grad for value in moved.values())
    assert all(moved[key] is part[key] for key in ("fixed", "source", "registered_moving"))
    training.run()
    assert math.isfinite(float(training.state.output["loss"]))


def test_without_a_second_pass_batches_stay():
    part = batches(6, 1).batch(0)
    assert moved_once(trainer(), part) is part


def test_a_training_can_be_repeated_bit_for_bit():
    runs = [trainer(max_epochs=1) for _ in range(2)]
    for training in runs:
        training.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(runs[0]), weights(runs[1])))


def test_a_loss_that_is_not_finite_stops_before_anything_is_spoilt():
    training = trainer(AdversarialOptions(reconstruction_weight=1), reconstruction=lambda p: p.moved.sum() * math.nan)
    generator = [p.detach().clone() for p in training.players.generator.parameters()]
    with pytest.raises(TrainingDiverged, match=r"generator: the loss is nan .* iteration 1.*checkpoint: none"):
        training.run()
    assert all(torch.equal(a, b) for a, b in zip(generator, training.players.generator.parameters()))


def test_optimisers_suit_their_game():
    network = torch.nn.Linear(2, 1)
    clipped = optimizer_for(network, AdversarialOptions("wgan", penalty=0, clip=0.01), 1e-4)
    assert isinstance(clipped, torch.optim.RMSprop) and clipped.param_groups[0]["momentum"] == 0
    assert optimizer_for(network, AdversarialOptions("wgan"), 1e-4).param_groups[0]["betas"] == (0.0, 0.9)
    assert optimizer_for(network, AdversarialOptions("gan"), 1e-4).param_groups[0]["betas"] == (0.5, 0.999)


def test_generators_keep_some_momentum_unless_their_critic_is_clipped():
    network = torch.nn.Linear(2, 1)
    alone = AdversarialOptions(adversarial_weight=0, reconstruction_weight=1)
    betas = [generator_optimizer(network, o, 1e-4).param_groups[0]["betas"] for o in (alone, AdversarialOptions())]
    assert betas == [(0.9, 0.999), (0.5, 0.9)]
    clipped = generator_optimizer(network, AdversarialOptions("wgan", penalty=0, clip=0.01), 1e-4)
    assert isinstance(clipped, torch.optim.RMSprop)


def test_rates_rise_and_fall():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = warm_cosine(optimizer, 10, 2), []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [0.5, 1.0, *((1 + math.cos(math.pi * k / 8)) / 2 for k in range(9))]
    assert rates == pytest.approx(expected)
    with pytest.raises(InputError, match="warm: 10"):
        warm_cosine(optimizer, 10, 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"game": "wgn"}, "did you mean 'wgan'"),
        ({"n_critic": 0}, "n_critic: 0"),
        ({"penalty": -1.0}, "penalty: -1.0"),
        ({"clip": 0.0}, "clip: 0.0"),
        ({"max_norm": 0.0}, "max_norm"),
        ({"penalty": 0.0}, "no clip"),
        ({"adversarial_weight": 0.0}, "nothing would be trained"),
        ({"reconstruction_weight": math.nan}, "reconstruction_weight"),
        ({"second_pass": 1.5}, r"second_pass: 1\.5"),
        ({"second_pass": math.nan}, "second_pass: nan"),
    ],
)
def test_bad_options_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        AdversarialOptions(**settings)


def test_players_that_do_not_suit_the_game_are_refused():
    options = AdversarialOptions("wgan", penalty=0, clip=0.01)
    cast = players(options)
    cast.discriminator_optimizer = torch.optim.RMSprop(cast.discriminator.parameters(), momentum=0.9)
    with pytest.raises(InputError, match="momentum"):
        cast.check(options)
    cast = players(options)
    cast.discriminator.sigmoid = True
    cast.check(options)
    with pytest.raises(InputError, match="sigmoid"):
        cast.check(AdversarialOptions("gan", penalty=0))


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="multiple of n_critic=3"):
        trainer(AdversarialOptions(n_critic=3)).run()
    training = trainer(stream=[{"fixed": torch.zeros(1)}])
    with pytest.raises(InputError, match="moving, source, start, truth, registered_fixed, registered_moving missing"):
        training.run()
