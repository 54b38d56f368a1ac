"""Settings of adversarial training, its players, and the optimisers and schedules that suit them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import Adam, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from medmi.losses.adversarial import GAMES
from medmi.networks.registration import PairGenerator, PairScorer
from medmi.validation import InputError, choose

__all__ = ["AdversarialOptions", "Players", "generator_optimizer", "optimizer_for", "warm_cosine"]


@dataclass(frozen=True)
class AdversarialOptions:
    """How the two networks play.

    Attributes:
        game: a name of :data:`medmi.losses.adversarial.GAMES`.
        n_critic: discriminator steps for each generator step, each on its own part of the batch.
        penalty: weight of the gradient penalty; 0 leaves it out.
        clip: bound of the discriminator's weights; None: no clipping.
        adversarial_weight: of the generator's adversarial loss; 0 trains without a discriminator.
        reconstruction_weight: of the trainer's reconstruction loss; 0 leaves it out.
        second_pass: share of each batch that the generator moves once before it is trained on it, without gradient, so
            that it learns from what it sees in its second pass.
        max_norm: gradients longer than this are shortened to it.
        seed: of the points where the penalty looks.

    Raises:
        InputError: unknown game, a number out of range, a WGAN with neither penalty nor clipping, no loss at all.
    """

    game: str = "wgan"
    n_critic: int = 1
    penalty: float = 10.0
    clip: float | None = None
    adversarial_weight: float = 1.0
    reconstruction_weight: float = 0.0
    second_pass: float = 0.0
    max_norm: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        choose(self.game, GAMES, "game")
        if self.n_critic < 1:
            raise InputError(f"n_critic: {self.n_critic!r} came; at least 1 is asked")
        for name in ("penalty", "adversarial_weight", "reconstruction_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name}: {getattr(self, name)!r} came; a finite number from 0 is asked")
        if not 0 <= self.second_pass <= 1:
            raise InputError(f"second_pass: {self.second_pass!r} came; a share from 0 to 1 is asked")
        for name, value in (("clip", self.clip), ("max_norm", self.max_norm)):
            if value is not None and not value > 0:
                raise InputError(f"{name}: {value!r} came; a number above 0 is asked")
        if self.game == "wgan" and self.adversarial_weight and not self.penalty and self.clip is None:
            raise InputError("penalty: 0 came with game 'wgan' and no clip; its critic needs one of both")
        if not self.adversarial_weight and not self.reconstruction_weight:
            raise InputError("adversarial_weight: 0 came and reconstruction_weight is 0 too; nothing would be trained")


@dataclass
class Players:
    """Both networks with their optimisers, and schedules that step with them.

    ``companion`` is a module that learns with the generator, such as MINE's critic; its parameters are the optimiser's.
    """

    generator: PairGenerator
    generator_optimizer: Optimizer
    discriminator: PairScorer
    discriminator_optimizer: Optimizer
    generator_schedule: LRScheduler | None = None
    discriminator_schedule: LRScheduler | None = None
    companion: nn.Module | None = None

    def check(self, options: AdversarialOptions) -> None:
        """Raise InputError where these players do not suit the game.

        A sigmoid within the discriminator suits the WGAN alone; a WGAN's critic must be trained without momentum,
        because its loss moves with every step (Arjovsky et al. 2017, section 4).
        """
        if self.discriminator.sigmoid and not choose(options.game, GAMES, "game").takes_sigmoid:
            raise InputError(f"discriminator: has a sigmoid, which the loss of {options.game!r} already holds")
        group = self.discriminator_optimizer.param_groups[0]
        if options.game == "wgan" and (group.get("momentum", 0) > 0 or group.get("betas", (0,))[0] > 0):
            raise InputError("discriminator_optimizer: has momentum; game 'wgan' asks for none, see optimizer_for")


def generator_optimizer(network: nn.Module, options: AdversarialOptions, lr: float) -> Optimizer:
    """Adam with its usual moments without a discriminator and half the first moment against one; RMSprop where it clips.

    A generator may keep some momentum: its loss moves slower than a critic's, and training was faster with it.
    """
    if not options.adversarial_weight:
        return Adam(network.parameters(), lr)
    if options.game == "wgan" and options.clip is not None:
        return RMSprop(network.parameters(), lr)
    return Adam(network.parameters(), lr, betas=(0.5, 0.9))


def optimizer_for(network: nn.Module, options: AdversarialOptions, lr: float) -> Optimizer:
    """RMSprop without momentum for a clipped WGAN, Adam without first moment for a penalised one, else Adam.

    Source: Arjovsky et al. 2017, Algorithm 1; Gulrajani et al. 2017, Algorithm 1.
    """
    if options.game != "wgan":
        return Adam(network.parameters(), lr, betas=(0.5, 0.999))
    if options.clip is not None:
        return RMSprop(network.parameters(), lr)
    return Adam(network.parameters(), lr, betas=(0.0, 0.9))


def warm_cosine(optimizer: Optimizer, steps: int, warm: int = 0) -> LambdaLR:
    """A rate that rises linearly over ``warm`` steps and falls as a half cosine to zero at ``steps``.

    Raises:
        InputError: not ``0 <= warm < steps``.
    """
    if not 0 <= warm < steps:
        raise InputError(f"warm: {warm} came with steps {steps}; 0 <= warm < steps is asked")

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return (1 + math.cos(math.pi * min(1.0, (step - warm) / (steps - warm)))) / 2

    return LambdaLR(optimizer, factor)
