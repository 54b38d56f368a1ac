"""Donsker and Varadhan's bound of a critic as a function of the pose, on points drawn over the whole fixed image, with its gradient.

Words: a *pool* holds the points drawn from one level; *true pairs* are the fixed values at points and the moving values where a pose sends
them; *re-paired* ones take the moving values of other points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medmi.information.bounds import donsker_varadhan
from medmi.information.pairs import derangements, score_pairs
from medmi.registration import kernels_cpu
from medmi.registration.critic_inputs import critic_volume
from medmi.registration.drawing import draw
from medmi.registration.levels import Array, Volume
from medmi.registration.objective import Scores
from medmi.threads import one_thread

LEAST_PAIRS = 16
EVALUATION_POINTS, EVALUATION_MARGINALS = 8000, 2
METRIC_POINTS = 4000
# Weight of plain motion in the metric, so that a direction that changes no value stays finite.
RIDGE = 1e-3


@dataclass(frozen=True)
class Pairs:
    """What one pose makes of n points, of which m fall inside the moving image.

    Attributes:
        fixed, moving: critic inputs ``(m, F)``.
        kept: which of the points they belong to, ``(m,)``.
        points: ``(3, n)`` float32.
        matrix: ``(4, 4)``, from the points to the moving index.
        slopes: index gradients ``(F, 1, 3, n)`` of the moving inputs.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    kept: Array
    points: Array
    matrix: Array
    slopes: Array

    @property
    def overlap(self) -> float:
        """Share of the points inside the moving image."""
        return len(self.kept) / self.points.shape[1]

    def matrix_gradient(self, derivative: torch.Tensor) -> Array:
        """dS/dmatrix ``(4, 4)`` from dS/dmoving ``(m, F)``."""
        features, _, _, count = self.slopes.shape
        spread = np.zeros((features, 1, count), np.float32)
        spread[:, 0, self.kept] = derivative.numpy().T
        out = np.empty((1, 4, 4))
        kernels_cpu.project(spread, self.slopes, self.matrix[None], self.points, out)
        return out[0]


@dataclass(frozen=True)
class Pool:
    """Points of one level and the moving volume that they are looked up in, both as critic inputs.

    Attributes:
        points: ``(3, N)`` float32, fixed world mm minus the centre.
        fixed: ``(N, F)``.
        moving: volume of F channels.
        to_index: ``(4, 4)`` moving world to moving index.
    """

    points: Array
    fixed: torch.Tensor
    moving: Volume
    to_index: Array

    def look_up(self, pose: Array, chosen: Array) -> Pairs:
        """Pairs of the chosen points at a pose ``(4, 4)`` from centred fixed world to moving world."""
        points, matrix = np.ascontiguousarray(self.points[:, chosen]), self.to_index @ pose
        features, count = len(self.moving.voxels), len(chosen)
        values, slopes = (
            np.empty((features + 1, 1, count), np.float32),
            np.empty((features + 1, 1, 3, count), np.float32),
        )
        kernels_cpu.sample(self.moving.pairs, self.moving.mask_pairs, matrix[None], points, values, slopes)
        kept = np.flatnonzero(values[-1, 0] == 1)
        moving = torch.from_numpy(np.ascontiguousarray(values[:-1, 0, kept].T))
        return Pairs(self.fixed[torch.from_numpy(chosen[kept])], moving, kept, points, matrix, slopes[:-1])

    def spread(self, count: int) -> Array:
        """Indices of about ``count`` points, evenly over the image."""
        whole = self.points.shape[1]
        return np.arange(0, whole, max(1, whole // count))


def make_pool(
    volumes: tuple[Volume, Volume], centre: Array, inputs: tuple[str, ...], count: int, rng: np.random.Generator
) -> Pool:
    """Draw ``count`` points over the fixed volume of a level; ``inputs`` names what the critic sees of both volumes."""
    fixed, moving = (critic_volume(volume, inputs) for volume in volumes)
    # Half as many at edges as where poses are searched: a critic learns what is common from what is common.
    drawn = draw(fixed, count, rng, foreground=0.2)
    values = torch.from_numpy(np.ascontiguousarray(drawn.values.T))
    return Pool(drawn.centred(centre), values, moving, np.linalg.inv(moving.to_world))


@dataclass(frozen=True)
class CriticObjective:
    """The bound of a critic that no longer learns; called like any objective of the solver.

    Similarity is Donsker and Varadhan's value in nat, at most the mutual information of the critic's inputs but for the chance of few
    points, minus infinity where under ``LEAST_PAIRS`` points are inside.

    Attributes:
        critic: ``critic(x, y)`` of inputs ``(N, F)`` each gives scores ``(N,)``.
        pool: of the finest level.
        seed: of the re-pairing.
    """

    critic: nn.Module
    pool: Pool
    seed: int

    @property
    def points(self) -> Array:
        """``(3, N)`` centred world points that tell poses apart."""
        return self.pool.points[:, self.pool.spread(100)]

    def __call__(self, poses: Array, gradient: bool = True) -> Scores:
        """Evaluate poses ``(B, 4, 4)`` one by one."""
        with one_thread(), torch.inference_mode(False), torch.set_grad_enabled(gradient):
            rows = [self._evaluate(pose, gradient) for pose in poses]
        similarity, overlap, slopes = (np.array([row[k] for row in rows]) for k in range(3))
        return Scores(similarity, overlap, similarity, similarity, slopes)

    def _evaluate(self, pose: Array, gradient: bool) -> tuple[float, float, Array]:
        pairs = self.pool.look_up(pose, self.pool.spread(EVALUATION_POINTS))
        slope = np.zeros((4, 4))
        if len(pairs.kept) < LEAST_PAIRS:
            return -np.inf, pairs.overlap, slope
        generator = torch.Generator().manual_seed(self.seed)
        pairing = derangements(len(pairs.kept), EVALUATION_MARGINALS, generator)
        device = next(self.critic.parameters()).device
        moving = pairs.moving.to(device).requires_grad_(gradient)
        value = donsker_varadhan(*score_pairs(self.critic, pairs.fixed.to(device), moving, pairing))
        if gradient:
            slope = self.pool.to_index.T @ pairs.matrix_gradient(torch.autograd.grad(value, moving)[0].cpu())
        return value.item(), pairs.overlap, slope


def whitened_basis(pool: Pool, pose: Array, basis: Array) -> Array:
    """Mixtures of the generators ``basis (t, 4, 4)`` along which small motions change the moving values alike and independently.

    The metric is the mean product of the values' derivatives along two generators (Gauss and Newton's matrix). Where perspective and
    shift, or a turn and a shear, nearly cancel, plain gradient steps would creep; in this basis one step length fits all directions. A unit
    along one of them moves the points by 1 mm (root mean square over directions).
    """
    pairs = pool.look_up(pose, pool.spread(METRIC_POINTS))
    if len(pairs.kept) < LEAST_PAIRS:
        return basis
    points = np.append(pairs.points.T, np.ones((pairs.points.shape[1], 1)), 1)[pairs.kept]
    ends = np.einsum("ij,nj->ni", pairs.matrix, points)
    speed = np.einsum("tij,nj->nti", np.einsum("ij,tjk->tik", pairs.matrix, basis), points)
    velocity = (speed[..., :3] - (ends[:, None, :3] / ends[:, None, 3:]) * speed[..., 3:]) / ends[:, None, 3:]
    change = np.einsum("fin,nti->nft", pairs.slopes[:, 0][..., pairs.kept], velocity)
    motion = np.einsum("ij,ntj->nti", np.linalg.inv(pool.to_index)[:3, :3], velocity)
    metric = np.einsum("nft,nfs->ts", change, change) / len(points)
    moved = np.einsum("nti,nsi->ts", motion, motion) / len(points)
    metric += RIDGE * np.trace(metric) / np.trace(moved) * moved + 1e-12 * moved
    power, directions = np.linalg.eigh(metric)
    mix = (directions / np.sqrt(power)) @ directions.T
    mix *= np.sqrt(len(basis) / np.trace(mix @ moved @ mix))
    return np.einsum("st,sij->tij", mix, basis)
