"""Adversarial losses: closed forms on a discrete toy, earth mover's distances, penalty and clipping, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance
from torch import nn

from medmi.losses import DiscriminatorLoss, GeneratorLoss, clip_weights, gradient_penalty
from medmi.losses.adversarial import GAMES
from medmi.threads import one_thread
from medmi.validation import InputError

P = np.array([0.1, 0.2, 0.3, 0.4])
Q = np.array([0.4, 0.3, 0.2, 0.1])
MIDDLE = (P + Q) / 2
JENSEN_SHANNON = (rel_entr(P, MIDDLE).sum() + rel_entr(Q, MIDDLE).sum()) / 2
# Names of games, the divergence their discriminator reaches (from its loss) and its truth.
REACHED = {
    "gan": (lambda loss: math.log(2) - loss / 2, JENSEN_SHANNON),
    "gan_log_d": (lambda loss: math.log(2) - loss / 2, JENSEN_SHANNON),
    "jsd": (lambda loss: -loss, JENSEN_SHANNON),
    "nwj": (lambda loss: -loss, rel_entr(P, Q).sum()),
    "dv": (lambda loss: -loss, rel_entr(P, Q).sum()),
    "hellinger": (lambda loss: -loss, ((np.sqrt(P) - np.sqrt(Q)) ** 2).sum()),
    "chi2": (lambda loss: -loss, ((P - Q) ** 2 / Q).sum()),
}


def mixing(count: int) -> torch.Tensor:
    """Where between real and fake the penalty looks."""
    return torch.rand(count, generator=torch.Generator().manual_seed(0))


def drawn(law: np.ndarray) -> torch.Tensor:
    """Ten samples in exactly the law's proportions."""
    return torch.from_numpy(np.repeat(np.arange(4), np.round(10 * law).astype(int)))


@pytest.mark.parametrize("game", REACHED)
def test_a_trained_discriminator_reaches_its_divergence(game):
    loss, scores = DiscriminatorLoss(game), nn.Embedding(4, 1)
    nn.init.zeros_(scores.weight)
    optimiser = torch.optim.LBFGS(scores.parameters(), max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss(scores(drawn(P)), scores(drawn(Q)))
        value.backward()
        return value

    optimiser.step(closure)
    reading, truth = REACHED[game]
    assert reading(float(closure().detach())) == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize("game", [name for name in GAMES if name != "gan_log_d"])
def test_the_generator_undoes_what_the_discriminator_does(game):
    """In the minimax games the gradients by the fakes' scores are opposite; they are derived by autograd alone."""
    real, fake = torch.linspace(-1, 2, 7)[:, None], torch.linspace(-2, 1, 7)[:, None].requires_grad_()
    there = torch.autograd.grad(DiscriminatorLoss(game)(real, fake), fake)[0]
    back = torch.autograd.grad(GeneratorLoss(game)(fake), fake)[0]
    torch.testing.assert_close(there, -back)


def test_minus_log_d_keeps_its_gradient_where_the_discriminator_wins():
    fake = torch.tensor([-20.0], requires_grad=True)
    lasting, vanishing = (torch.autograd.grad(GeneratorLoss(g)(fake), fake)[0].item() for g in ("gan_log_d", "gan"))
    assert lasting == pytest.approx(-1) and abs(vanishing) < 1e-8
    probability = 1 / (1 + math.exp(-0.7))
    value = float(GeneratorLoss("gan_log_d")(torch.tensor([0.7])))
    assert value == pytest.approx(-math.log(probability))
    assert float(GeneratorLoss("gan")(torch.tensor([0.7]))) == pytest.approx(math.log(1 - probability))


@one_thread()
def clipped_distance(theta: float) -> float:
    """What a clipped critic makes of two uniform strips, at 0 and at theta, as in the paper's first example."""
    source = torch.Generator().manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(0.2 * torch.rand(parameter.shape, generator=source) - 0.1)
    optimiser, loss = torch.optim.RMSprop(critic.parameters(), lr=1e-2), DiscriminatorLoss("wgan")
    value = torch.zeros(())
    for _ in range(100):
        along = torch.rand(2, 64, generator=source)
        real = torch.stack([torch.zeros(64), along[0]], 1)
        fake = torch.stack([torch.full((64,), theta), along[1]], 1)
        optimiser.zero_grad()
        value = loss(critic(real), critic(fake))
        value.backward()
        optimiser.step()
        clip_weights(critic, 0.1)
    return -float(value.detach())


def test_a_clipped_critic_orders_the_earth_movers_distances():
    shifts = [-1.0, 0.5, 0.0, 0.25, 0.75]
    truth = [wasserstein_distance([0.0], [theta]) for theta in shifts]
    assert truth == [abs(theta) for theta in shifts]
    found = [clipped_distance(theta) for theta in shifts]
    assert np.argsort(found).tolist() == np.argsort(truth).tolist()
    # The Jensen-Shannon divergence says log 2 of every one but zero: it does not order them.


class Linear(nn.Module):
    """A critic whose gradient is known: 3 in every voxel of fixed, 4 of moved."""

    def forward(self, fixed: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
        return (3 * fixed.flatten(1).sum(1) + 4 * moved.flatten(1).sum(1))[:, None]


def test_gradient_penalty_of_a_linear_critic_is_known():
    pair = torch.rand(5, 1, 3, 4), torch.rand(5, 1, 3, 4)
    value = gradient_penalty(Linear(), pair, pair, mixing(5))
    assert float(value.detach()) == pytest.approx((5 * math.sqrt(12) - 1) ** 2, rel=1e-6)


class Square(nn.Module):
    """Half the square of what it sees: its gradient is the point itself."""

    def forward(self, fixed: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
        return (fixed.square().flatten(1).sum(1, keepdim=True) + moved.square().flatten(1).sum(1, keepdim=True)) / 2


def test_gradient_penalty_looks_between_real_and_fake():
    ones, zeros = torch.ones(400, 1, 2, 2), torch.zeros(400, 1, 2, 2)
    value = gradient_penalty(Square(), (ones, zeros), (zeros, zeros), mixing(400))
    # The norm is 2 e with e uniform on [0, 1): E[(2 e - 1)^2] = 1 / 3.
    assert float(value.detach()) == pytest.approx(1 / 3, abs=0.04)


def test_gradient_penalty_teaches_the_critic_and_leaves_the_images_alone():
    critic = nn.Bilinear(4, 4, 1)
    fake = torch.rand(3, 4, requires_grad=True)
    value = gradient_penalty(critic, (torch.rand(3, 4), torch.rand(3, 4)), (fake, fake), mixing(3))
    value.backward()
    assert critic.weight.grad is not None and float(critic.weight.grad.abs().max()) > 0 and fake.grad is None


def test_gradient_penalty_of_a_constant_critic_has_finite_gradients():
    critic = nn.Bilinear(4, 4, 1)
    nn.init.zeros_(critic.weight)
    pair = torch.rand(3, 4), torch.rand(3, 4)
    value = gradient_penalty(critic, pair, pair, mixing(3))
    value.backward()
    assert float(value.detach()) == pytest.approx(1, abs=1e-5) and bool(critic.weight.grad.isfinite().all())


def test_autocast_lowers_neither_losses_nor_penalty():
    critic = nn.Bilinear(4, 4, 1)
    pair = torch.rand(3, 4), torch.rand(3, 4)
    expected = gradient_penalty(critic, pair, pair, mixing(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = critic(*pair)
        value = gradient_penalty(critic, tuple(x.bfloat16().float() for x in pair), pair, mixing(3))
        same = gradient_penalty(critic, pair, pair, mixing(3))
        assert DiscriminatorLoss("gan")(scores, scores).dtype == torch.float32
    assert same.dtype == value.dtype == torch.float32 and torch.equal(same, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("game", GAMES)
def test_losses_are_float32_or_better(game, dtype):
    scores = torch.linspace(-1, 1, 4, dtype=dtype)[:, None]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert DiscriminatorLoss(game)(scores, scores).dtype == GeneratorLoss(game)(scores).dtype == wide


def test_weights_are_clipped_in_place():
    network = nn.Linear(30, 30)
    clip_weights(network)
    assert float(network.weight.detach().abs().max()) <= 0.01 and network.weight.requires_grad


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_not_above_zero_is_refused(limit):
    with pytest.raises(InputError, match="limit"):
        clip_weights(nn.Linear(1, 1), limit)


def test_bad_input_is_refused():
    for make in (DiscriminatorLoss, GeneratorLoss):
        with pytest.raises(InputError, match="did you mean 'wgan'"):
            make("wgn")
    with pytest.raises(InputError, match="fake: scores of shape"):
        GeneratorLoss()(torch.zeros(0, 1))
    with pytest.raises(InputError, match="real: scores of shape"):
        DiscriminatorLoss()(torch.zeros(0, 1), torch.zeros(1, 1))
    with pytest.raises(InputError, match="real has shapes"):
        pair = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
        gradient_penalty(Linear(), pair, (pair[0], torch.zeros(1, 1, 4, 5)), mixing(1))
    with pytest.raises(InputError, match="mixing: shape"):
        gradient_penalty(Linear(), pair, pair, mixing(2))
