"""Neural mutual information as a similarity of the solver: a critic climbs its bound together with the pose.

Both the critic's weights and the pose are moved to raise

    E_true[T] - log E_re-paired[exp T]  <=  mutual information (nat)

by stochastic steps on points drawn afresh over the whole overlap: first the critic alone, then both. The pose's steps shrink and the second
half of its way is averaged, which leaves out the noise of single steps.

Source: Nan et al. 2020, "DRMIME" (one critic, all levels in one loss); Belghazi et al. 2018, "Mutual Information Neural Estimation", Eq. 12
(moving-average gradient); Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from medmi.registration.ascent import LEAST_OVERLAP
from medmi.registration.critic_inputs import DESCRIPTORS
from medmi.registration.joint_ascent import Batch, JointAscent, new_joint_ascent
from medmi.registration.levels import Array, Volume
from medmi.registration.neural_objective import LEAST_PAIRS, CriticObjective, make_pool
from medmi.registration.objective import Scores
from medmi.registration.workers import CPU
from medmi.threads import one_thread
from medmi.validation import InputError, choose

# Which levels each part of the first half of the way takes into its loss; the second half goes on with the last entry.
LEVELS: Mapping[str, Callable[[int], list[list[int]]]] = MappingProxyType(
    {
        "together": lambda count: [list(range(count))],
        "in_turn": lambda count: [[k] for k in range(count)],
        "narrowing": lambda count: [list(range(count)), list(range(max(count - 2, 0), count))],
    }
)
AVERAGED = 0.5
# Rates at the end of the way as shares of those at its start.
CRITIC_END, POSE_END = 0.1, 0.3
# Steps behind one row of the history.
RECORDED = 10
# Share of the finest voxel that the two halves of the averaged part may lie apart for a pose that rests.
REST = 0.25
# Even where all but the least overlap is lost, a third of this leaves pairs enough for each of three levels.
LEAST_POINTS = round(3 * LEAST_PAIRS / LEAST_OVERLAP)


@dataclass(frozen=True)
class NeuralTerm:
    """Options of ``similarity="mine"``.

    Attributes:
        inputs: what the critic sees of each channel of both images, names of
            :data:`medmi.registration.critic_inputs.DESCRIPTORS`: ``intensity``, ``smoothed``, ``gradient``, ``deviation``, and
            ``contrast``, which bears a bias field.
        levels: ``together`` takes all pyramid levels into one loss all the way, as published; ``narrowing`` leaves the coarsest out
            after a quarter of the way and ends nearer; ``in_turn`` goes from coarse to fine, nearer still on clean images and farther off
            on noisy ones.
        warm_up: steps of the critic before the pose moves.
        steps: of critic and pose together.
        points: drawn for each step, shared out among the levels in use.
        pool: points of each level that those are drawn from.
        critic_rate: Adam's rate for the critic.
        pose_step: length of the first steps of the pose along each direction, as a share of the finest voxel.
        hidden: widths of the critic's layers.

    Raises:
        InputError: an unknown name, or a number that nothing can be learnt with.

    >>> NeuralTerm(inputs=("intensity", "gradient")).steps
    900
    """

    inputs: tuple[str, ...] = ("intensity",)
    levels: str = "narrowing"
    warm_up: int = 150
    steps: int = 900
    points: int = 1000
    pool: int = 32_000
    critic_rate: float = 2e-3
    pose_step: float = 0.15
    hidden: tuple[int, ...] = (100, 100)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError("inputs: none came; give at least one name, such as intensity")
        for name in self.inputs:
            choose(name, DESCRIPTORS, "inputs")
        choose(self.levels, LEVELS, "levels")
        if min(self.hidden, default=0) < 1:
            raise InputError(f"hidden: got {self.hidden}; widths of at least 1 are asked")
        least = {"warm_up": 0, "steps": 2 * RECORDED, "points": LEAST_POINTS, "pool": LEAST_POINTS}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise InputError(f"{name}: got {getattr(self, name)}; at least {number} is asked")
        for name in ("critic_rate", "pose_step"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}: got {getattr(self, name)}; a positive number is asked")


NEURAL_TERMS: Mapping[str, NeuralTerm] = MappingProxyType({"mine": NeuralTerm()})


@dataclass(frozen=True)
class Way:
    """Where a climb begins and what it goes by.

    Attributes:
        levels: fixed and moving volumes, coarse to fine.
        centre: the solver's centre, ``(3,)`` world mm.
        basis: generators ``(t, 4, 4)`` about the centre.
        pose: ``(4, 4)`` to climb from.
        given: ``(4, 4)`` the caller's own start.
    """

    levels: list[tuple[Volume, Volume]]
    centre: Array
    basis: Array
    pose: Array
    given: Array


@dataclass(frozen=True)
class Summit:
    """Where a climb ended.

    Attributes:
        poses: ``(B, 4, 4)``: the one found and, where it is less than a voxel away, the given one, which may be as good.
        scores: of the poses.
        objective: the bound of the trained critic.
        rested: whether the pose moved no more.
    """

    poses: Array
    scores: Scores
    objective: CriticObjective
    rested: bool


def climb_with_critic(
    term: NeuralTerm,
    way: Way,
    seed: int,
    on_step: Callable[[float, Scores], None] | None = None,
    device: torch.device = CPU,
) -> Summit:
    """Train a critic and move a pose together.

    A critic that diverges, or a pose that loses the overlap, ends the climb; its score then says so.

    Args:
        term: options.
        way: volumes, pose and directions.
        seed: of the critic's start and of all draws.
        on_step: called now and then with the share of the work done, 0 to 1, and the mean scores since the last call.
        device: of the critic.
    """
    rng = np.random.default_rng(seed)
    pools = [make_pool(volumes, way.centre, term.inputs, term.pool, rng) for volumes in way.levels]
    voxel = _voxel_size(way.levels[-1][0])
    # Evaluation loops switch gradients off, and a critic is trained inside one all the same.
    with one_thread(), torch.inference_mode(False), torch.enable_grad():
        ascent = new_joint_ascent(pools, way.pose, way.basis, term.hidden, seed, device)
        path = _train(ascent, term, voxel * term.pose_step, on_step)
    found = ascent.pose_at(path.mean(0))
    objective = CriticObjective(ascent.critic.requires_grad_(False), pools[-1], seed)
    near = _distance(found, way.given, objective.points.T) < voxel
    poses = np.stack([found, way.given] if near else [found])
    return Summit(poses, objective(poses, gradient=False), objective, _drift(path) < REST * voxel)


def _train(
    ascent: JointAscent, term: NeuralTerm, pose_step: float, on_step: Callable[[float, Scores], None] | None
) -> Array:
    """Take all steps; the offsets ``(n, t)`` of the part to average, or the last one where the way broke off."""
    groups = LEVELS[term.levels](len(ascent.pools))
    path: list[Array] = []
    recent: list[Batch] = []
    for k in range(-term.warm_up, term.steps):
        share = max(k, 0) / term.steps
        group = groups[min(int(share / AVERAGED * len(groups)), len(groups) - 1)]
        rates = term.critic_rate * _faded(share, CRITIC_END), pose_step * _faded(share, POSE_END) * (k >= 0)
        batch = ascent.step(group, term.points // len(group), *rates)
        if batch is None:
            return ascent.offset[None]
        recent.append(batch)
        if share >= AVERAGED:
            path.append(ascent.offset)
        if len(recent) == RECORDED and on_step is not None:
            on_step((k + 1 + term.warm_up) / (term.steps + term.warm_up), _mean_scores(recent))
        recent = recent if len(recent) < RECORDED else []
    return np.stack(path)


def _drift(path: Array) -> float:
    """How far in mm the means of both halves of a way ``(n, t)`` lie apart; one point tells nothing."""
    if len(path) < 2:
        return math.inf
    middle = len(path) // 2
    return float(np.linalg.norm(path[:middle].mean(0) - path[middle:].mean(0)))


def _faded(share: float, end: float) -> float:
    """From 1 at share 0 to ``end`` at 1, along half a cosine."""
    return end + (1 - end) * (1 + math.cos(math.pi * share)) / 2


def _mean_scores(batches: list[Batch]) -> Scores:
    value, overlap = np.mean([[b.value, b.overlap] for b in batches], 0)
    return Scores(np.array([value]), np.array([overlap]), np.array([value]), np.array([value]), np.zeros((0, 4, 4)))


def _voxel_size(volume: Volume) -> float:
    """Geometric mean of the steps in mm along the axes that have any."""
    steps = np.linalg.norm(volume.to_world[:3, :3], axis=0)[np.array(volume.voxels.shape[1:]) > 1]
    return float(np.exp(np.log(steps).mean()))


def _distance(a: Array, b: Array, points: Array) -> float:
    """Root mean square distance in mm between the images of points ``(n, 3)``."""
    ends = np.append(points, np.ones((len(points), 1)), 1) @ np.stack([a, b]).transpose(0, 2, 1)
    ends = ends[..., :3] / ends[..., 3:]
    return float(np.sqrt(np.square(ends[0] - ends[1]).sum(-1).mean()))
