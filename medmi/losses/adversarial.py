"""Adversarial losses: what a discriminator and a generator minimise, from the discriminator's scores.

Words: a *score* is the discriminator's output before any sigmoid, ``(B, 1)`` or any shape; P is the law of *real*
(registered) pairs, Q that of *fake* (the generator's) ones, r = dP/dQ; a *game* is a row of :data:`GAMES`. All values
are means over the batch in float32 or better, under autocast too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.modules.loss import _Loss

from medmi.information.bounds import BOUNDS
from medmi.validation import InputError, choose

__all__ = ["GAMES", "DiscriminatorLoss", "Game", "GeneratorLoss", "clip_weights", "gradient_penalty"]

CLIP = 0.01


def gan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E_P[log D] - E_Q[log(1 - D)], D = sigmoid(score): at best 2 log 2 - 2 JS(P || Q), at score = log r.

    So ``log 2 - loss / 2`` is at most the Jensen-Shannon divergence. Source: Goodfellow et al. 2014, Eq. 1, Theorem 1.
    """
    return softplus(-real).mean() + softplus(fake).mean()


def gan_generator(fake: Tensor) -> Tensor:
    """E_Q[log(1 - D)], the generator's part of the minimax game. Source: Goodfellow et al. 2014, Eq. 1."""
    return -softplus(fake).mean()


def log_d_generator(fake: Tensor) -> Tensor:
    """-E_Q[log D], whose gradient lasts where the discriminator wins. Source: Goodfellow et al. 2014, section 3."""
    return softplus(-fake).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E_Q[score] - E_P[score]: minus K times the earth mover's distance for the best of the K-Lipschitz critics.

    Source: Arjovsky et al. 2017, "Wasserstein GAN", Eq. 2.
    """
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E_Q[score]. Source: Arjovsky et al. 2017, Algorithm 1."""
    return -fake.mean()


@dataclass(frozen=True)
class Game:
    """What both players minimise.

    Attributes:
        discriminator: from scores of real and of fake pairs.
        generator: from scores of fake pairs.
        takes_sigmoid: whether scores may already have passed a sigmoid, as those of the published WGAN.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    takes_sigmoid: bool = False


def divergence_game(bound: str) -> Game:
    """The game over an f-divergence D(P || Q): the discriminator raises its dual bound, the generator lowers it.

    The discriminator's loss is minus the row ``bound`` of :data:`medmi.information.bounds.BOUNDS`. The generator's is
    the part of it that fakes enter; with the scores of real pairs set to 0, what is left out is constant in them.

    Source: Nowozin et al. 2016, "f-GAN", Eq. 4; dv: Belghazi et al. 2018, Eq. 10.
    """
    value = BOUNDS[bound].value

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return -value(real.flatten(), fake.reshape(1, -1))

    def generator(fake: Tensor) -> Tensor:
        return value(fake.new_zeros(fake.numel()), fake.reshape(1, -1))

    return Game(discriminator, generator)


GAMES: Mapping[str, Game] = MappingProxyType(
    {
        "gan": Game(gan_discriminator, gan_generator),
        "gan_log_d": Game(gan_discriminator, log_d_generator),
        "wgan": Game(wasserstein_discriminator, wasserstein_generator, takes_sigmoid=True),
        **{bound: divergence_game(bound) for bound in ("nwj", "jsd", "hellinger", "chi2", "dv")},
    }
)
"""The games by name; the f-divergences bear the names of their bounds (nwj and dv: the Kullback-Leibler divergence)."""


class DiscriminatorLoss(_Loss):
    """What the discriminator minimises: ``loss(real_scores, fake_scores)``, a scalar.

    Args:
        game: a name of :data:`GAMES`. ``gan`` and ``gan_log_d`` share it: 2 log 2 = 1.386 nat for a blind
            discriminator, 0 for a perfect one. ``wgan``: any real number, 0 for a blind critic, lower is better; keep
            the critic Lipschitz by :func:`gradient_penalty` or :func:`clip_weights`. Others: minus a divergence in nat.

    Raises:
        InputError: an unknown game, or scores that are empty.

    >>> round(float(DiscriminatorLoss("gan")(torch.zeros(4, 1), torch.zeros(4, 1))), 3)
    1.386
    """

    def __init__(self, game: str = "gan") -> None:
        super().__init__()
        self.row = choose(game, GAMES, "game")

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.row.discriminator(_scores(real, "real"), _scores(fake, "fake"))


class GeneratorLoss(_Loss):
    """What the generator minimises: ``loss(fake_scores)``, a scalar, lower where fakes score as real pairs do.

    Args:
        game: a name of :data:`GAMES`: ``gan`` for ``E log(1 - D)``, ``gan_log_d`` for ``-E log D``, and so on.

    Raises:
        InputError: an unknown game, or scores that are empty.
    """

    def __init__(self, game: str = "gan") -> None:
        super().__init__()
        self.row = choose(game, GAMES, "game")

    def forward(self, fake: Tensor) -> Tensor:
        return self.row.generator(_scores(fake, "fake"))


Pair = tuple[Tensor, Tensor]


def gradient_penalty(discriminator: nn.Module, real: Pair, fake: Pair, mixing: Tensor) -> Tensor:
    """E[(|gradient of the score by the pair| - 1)^2] at points drawn between real and fake pairs, a scalar from 0.

    The points are ``e * real + (1 - e) * fake`` with one e for each sample, both images of a pair alike; the norm runs
    over both images. Computed in float32 or better, under autocast too; differentiable in the
    discriminator's parameters.

    Args:
        discriminator: called with (fixed, moved), gives scores ``(B, 1)``.
        real: registered pairs, two tensors ``(B, C, *spatial)``.
        fake: the generator's pairs, of the same shapes.
        mixing: e, ``(B,)``, drawn uniformly from [0, 1).

    Raises:
        InputError: real, fake and mixing of unlike shapes.

    Source: Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", Eq. 3.
    """
    shapes = [[tuple(image.shape) for image in pair] for pair in (real, fake)]
    if shapes[0] != shapes[1]:
        raise InputError(f"gradient_penalty: real has shapes {shapes[0]} but fake {shapes[1]}; they must agree")
    if tuple(mixing.shape) != (len(real[0]),):
        raise InputError(
            f"mixing: shape {tuple(mixing.shape)} came; one number for each of {len(real[0])} pairs is asked"
        )
    with torch.autocast(real[0].device.type, enabled=False), torch.enable_grad():
        pair = [_between(a, b, mixing).requires_grad_() for a, b in zip(real, fake, strict=True)]
        gradients = torch.autograd.grad(discriminator(*pair).sum(), pair, create_graph=True)
        squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
        # The root's gradient is infinite at 0, where a constant critic is.
        return ((squares + 1e-12).sqrt() - 1).square().mean()


@torch.no_grad()
def clip_weights(discriminator: nn.Module, limit: float = CLIP) -> None:
    """Clamp every parameter to [-limit, limit] in place, so that the critic stays Lipschitz.

    Raises:
        InputError: the limit is not above 0.

    Source: Arjovsky et al. 2017, Algorithm 1.
    """
    if not limit > 0:
        raise InputError(f"limit: {limit!r} came; a number above 0 is asked")
    for parameter in discriminator.parameters():
        parameter.clamp_(-limit, limit)


def _between(real: Tensor, fake: Tensor, mixing: Tensor) -> Tensor:
    share = mixing.to(real.device).reshape(-1, *[1] * (real.ndim - 1))
    wide = torch.promote_types(real.dtype, torch.float32)
    return torch.lerp(fake.detach().to(wide), real.detach().to(wide), share.to(wide))


def _scores(scores: Tensor, name: str) -> Tensor:
    if scores.numel() == 0:
        raise InputError(f"{name}: scores of shape {tuple(scores.shape)} came; at least one is asked")
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
