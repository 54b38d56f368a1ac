"""Joint ascent: stochastic steps that raise one bound by the critic's weights and by the pose at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from medmi import networks
from medmi.information.bounds import MovingAverage, moving_average_donsker_varadhan
from medmi.information.pairs import derangements, score_pairs
from medmi.registration.levels import Array
from medmi.registration.motion import moved_along, tangent
from medmi.registration.neural_objective import LEAST_PAIRS, Pairs, Pool, whitened_basis
from medmi.registration.workers import CPU

# How much of the last step's direction is kept, how long the size of gradients is remembered, and the weight of the newest batch in MINE's
# denominator.
MOMENTUM, MEMORY, NEWEST = 0.9, 0.98, 0.05


@dataclass(frozen=True)
class Batch:
    """What one step saw: the bound in nat and the share of the points inside the moving image."""

    value: float
    overlap: float


@dataclass
class JointAscent:
    """A critic and a pose on their way.

    The pose is ``start exp(sum_i offset_i G_i)``. All directions of the whitened basis share one scale of their gradients, the running
    root mean square, so that the first steps are as long along each, and steps do not shrink with the size of the similarity.

    Attributes:
        critic: that learns.
        optimiser: of the critic.
        pools: of all levels.
        start: pose ``(4, 4)``.
        basis: whitened generators ``(t, 4, 4)``.
        generator: of all draws.
        offset: ``(t,)``, about mm.
        direction, energy: running mean of the gradient ``(t,)`` and of its mean square.
        moves: of the pose so far.
        averages: of MINE's denominator, one a level.
    """

    critic: nn.Module
    optimiser: torch.optim.Optimizer
    pools: list[Pool]
    start: Array
    basis: Array
    generator: torch.Generator
    offset: Array
    direction: Array
    energy: float = 0.0
    moves: int = 0
    averages: list[MovingAverage] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the critic is; points are looked up on the processor."""
        return next(self.critic.parameters()).device

    def pose_at(self, offset: Array) -> Array:
        """The pose ``(4, 4)`` of an offset."""
        return moved_along(self.start[None], offset[None], self.basis)[0]

    def step(self, group: list[int], count: int, critic_rate: float, pose_step: float) -> Batch | None:
        """One step on ``count`` fresh points of each level in ``group``; None, and nothing changed, where no step can be taken.

        That is where hardly any points fall inside the moving image or the bound is not finite. The pose stays at ``pose_step`` 0.
        """
        here = self.pose_at(self.offset)
        pairs = [self._drawn(self.pools[k], here, count) for k in group]
        if min(len(p.kept) for p in pairs) < LEAST_PAIRS:
            return None
        fixed, moving = (torch.cat([getattr(p, side) for p in pairs]).to(self.device) for side in ("fixed", "moving"))
        bound = self._bound(group, [len(p.kept) for p in pairs], fixed, moving.requires_grad_(pose_step > 0))
        value = bound.item()
        if not math.isfinite(value):
            return None
        self.optimiser.zero_grad()
        (-bound).backward()
        self.optimiser.param_groups[0]["lr"] = critic_rate
        self.optimiser.step()
        if moving.grad is not None:
            self._move(group, pairs, -moving.grad.cpu(), here, pose_step)
        return Batch(value, sum(p.overlap for p in pairs) / len(pairs))

    def _drawn(self, pool: Pool, pose: Array, count: int) -> Pairs:
        # Points are in the order of memory: one from each of as many stretches, so that every step sees all of the image.
        whole = pool.points.shape[1]
        places = (torch.arange(count) + torch.rand(count, generator=self.generator)) * (whole / count)
        return pool.look_up(pose, places.long().clamp_max(whole - 1).numpy())

    def _bound(self, group: list[int], sizes: list[int], fixed: Tensor, moving: Tensor) -> Tensor:
        """Mean over levels of each one's bound, from one call of the critic; pairs are re-paired within their level."""
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        pairing = torch.cat([derangements(n, 1, self.generator) + at for n, at in zip(sizes, starts)], 1)
        joint, marginal = score_pairs(self.critic, fixed, moving, pairing)
        bounds = [
            moving_average_donsker_varadhan(j, m, self.averages[k].update(m))
            for k, j, m in zip(group, joint.split(sizes), marginal[0].split(sizes))
        ]
        return torch.stack(bounds).mean()

    def _move(self, group: list[int], pairs: list[Pairs], derivative: Tensor, here: Array, pose_step: float) -> None:
        parts = derivative.split([len(p.kept) for p in pairs])
        gradient = sum(self.pools[k].to_index.T @ p.matrix_gradient(d) for k, p, d in zip(group, pairs, parts))
        slope = tangent(np.asarray(gradient)[None], here[None], self.basis)[0]
        self.moves += 1
        self.direction = MOMENTUM * self.direction + (1 - MOMENTUM) * slope
        self.energy = MEMORY * self.energy + (1 - MEMORY) * float(np.square(slope).mean())
        size = math.sqrt(self.energy / (1 - MEMORY**self.moves))
        if size > 0:
            self.offset = self.offset + pose_step / size / (1 - MOMENTUM**self.moves) * self.direction


def new_joint_ascent(
    pools: list[Pool], pose: Array, basis: Array, hidden: tuple[int, ...], seed: int, device: torch.device = CPU
) -> JointAscent:
    """A fresh critic on the device at a pose, whose directions are whitened on the last pool."""
    inputs = pools[-1].fixed.shape[1]
    # Layers draw their start from the CPU's global generator: seeded for them alone, and put back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        critic = networks.StatisticsNetwork(inputs, inputs, hidden).to(device)
    still = np.zeros(len(basis))
    return JointAscent(
        critic,
        torch.optim.Adam(critic.parameters()),
        pools,
        pose,
        whitened_basis(pools[-1], pose, basis),
        torch.Generator().manual_seed(seed),
        still,
        still,
        averages=[MovingAverage(NEWEST) for _ in pools],
    )
