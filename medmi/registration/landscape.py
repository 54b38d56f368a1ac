"""The information around a pose, region by region: how surely it falls, how it bends, and the pose covariance that follows.

A *region* is a part of the fixed image with as many drawn points as every other. Regions, not points, are taken as independent:
neighbouring points see the same edge. A *significance* is the mean of regional differences over its standard error, so it grows
neither with the number of points nor with the unit of the similarity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmi.registration import histogram_cpu, kernels_cpu
from medmi.registration.evidence import Evidence, derivatives_of
from medmi.registration.levels import Array
from medmi.registration.motion import moved_along
from medmi.registration.objective import Objective, smaller_volume

# Slabs along each axis, by dimension: 16 regions in the plane, 27 in space.
ACROSS = {2: 4, 3: 3}
# A generator along which the information hardly bends is taken as bent by this share of the sharpest: uncertain, but finite.
LEAST_CURVATURE = 0.05
TINY = 1e-12


def point_information(objective: Objective, poses: Array) -> Array:
    """What each point adds to overlap times mutual information, nat, ``(B, N)``: the mean over points is the merit of the pose.

    Pointwise mutual information ``log p(x, y) / (p(x) p(y))`` (Church & Hanks, 1990, Eq. 1) with the linear windows of the joint
    histogram; 0 outside the moving image, summed over channels.
    """
    values, weights = _moved(objective, poses)
    ratios = np.log(np.maximum(_ratios(objective, values, weights), TINY))
    poses_first = zip(ratios.swapaxes(0, 1), values.swapaxes(0, 1))
    return np.stack([_looked_up(objective, ratio, row) for ratio, row in poses_first]) * weights


def held_share(objective: Objective, pose: Array, spatial_dims: int) -> float:
    """Share of the information, up to 1, that holds where it was not learnt; about 0 where the relation of intensities is chance.

    The regions make a checkerboard. Points of either colour are looked up in the histogram of the other, mixed with a twentieth of
    independence so that no unseen pair of intensities decides alone.
    """
    values, weights = _moved(objective, pose[None])
    cells = regions_of(objective.points.T, ACROSS[spatial_dims])
    first = np.stack(np.unravel_index(cells, (ACROSS[spatial_dims],) * spatial_dims)).sum(0) % 2 == 0
    held = 0.0
    for learnt in (first, ~first):
        ratios = _ratios(objective, values, weights * learnt.astype(np.float32))
        information = _looked_up(objective, np.log(0.95 * ratios[:, 0] + 0.05), values[:, 0])
        held += float((information * weights[0])[~learnt].sum())
    whole = float(point_information(objective, pose[None]).sum())
    return held / max(whole, TINY)


def _moved(objective: Objective, poses: Array) -> tuple[Array, Array]:
    """Moving values ``(C, B, N)`` at the objective's points, and weights ``(B, N)``, less where the pose shrinks the fixed image."""
    moving, no_slopes = objective.moving, np.empty((0, 0, 0, 0), np.float32)
    values = np.empty((len(moving.voxels) + 1, len(poses), objective.points.shape[1]), np.float32)
    kernels_cpu.sample(moving.pairs, moving.mask_pairs, objective.to_index @ poses, objective.points, values, no_slopes)
    kernels_cpu.settle_rim(values[:-1], values[-1], objective.rim)
    return values[:-1], values[-1] * smaller_volume(poses)[:, None].astype(np.float32)


def _ratios(objective: Objective, values: Array, weights: Array) -> Array:
    """``p(x, y) / (p(x) p(y))`` over the points inside, ``(C, B, bins, bins)``."""
    samples = objective.samples
    tables = np.empty((*values.shape[:2], samples.bins, samples.bins))
    batch, count = weights.shape
    places, counts = np.tile(np.arange(count, dtype=np.uint32), (batch, 1)), np.full(batch, count)
    histogram_cpu.histogram(values, weights, places, counts, samples.positions, samples.low, samples.scale, tables)
    tables /= np.maximum(tables.sum((-1, -2), keepdims=True), TINY)
    unrelated = tables.sum(-1, keepdims=True) * tables.sum(-2, keepdims=True)
    return np.where(tables > TINY, tables / np.maximum(unrelated, TINY * TINY), 0)


def _looked_up(objective: Objective, tables: Array, values: Array) -> Array:
    """Values ``(N,)`` of ``tables (C, bins, bins)`` at the fixed and moving ``values (C, N)``, summed over channels."""
    samples = objective.samples
    columns = np.clip((values - samples.low[:, None]) * samples.scale[:, None], 0, samples.bins - 1)
    rows = zip(tables, samples.positions, columns)
    return np.sum([_bilinear(table, row, column) for table, row, column in rows], axis=0)


def _bilinear(table: Array, rows: Array, columns: Array) -> Array:
    """Bilinear values of a table at fractional rows and columns ``(N,)``."""
    i, j = (np.minimum(at.astype(np.int64), len(table) - 2) for at in (rows, columns))
    f, g = rows - i, columns - j
    upper = (1 - g) * table[i, j] + g * table[i, j + 1]
    lower = (1 - g) * table[i + 1, j] + g * table[i + 1, j + 1]
    return (1 - f) * upper + f * lower


def regions_of(points: Array, across: int) -> Array:
    """Number ``(N,)`` of the region of each point: slabs of equally many points along each axis that the points span."""
    number = np.zeros(len(points), np.int64)
    for axis in range(points.shape[1]):
        if np.ptp(points[:, axis]) > 0:
            edges = np.quantile(points[:, axis], np.arange(1, across) / across)
            number = number * across + np.searchsorted(edges, points[:, axis])
    return number


def regional_information(objective: Objective, poses: Array, spatial_dims: int) -> Array:
    """What each region adds to the merit of each pose, ``(B, R)``."""
    regions = np.unique(regions_of(objective.points.T, ACROSS[spatial_dims]), return_inverse=True)[1]
    count = int(regions.max()) + 1
    information = point_information(objective, poses)
    return np.stack([np.bincount(regions, row, count) for row in information]) / objective.points.shape[1]


def significance(differences: Array) -> Array:
    """Sum over its standard error of regional differences ``(..., R)``, as Student's t of their mean.

    >>> float(significance(np.array([1.0, 2.0, 3.0])).round(3))
    3.464
    """
    count = differences.shape[-1]
    error = differences.std(-1, ddof=1) * np.sqrt(count) if count > 1 else np.zeros(differences.shape[:-1])
    return differences.sum(-1) / np.maximum(error, TINY)


@dataclass(frozen=True)
class Surroundings:
    """The information one limit away from a pose along each generator, both ways.

    Attributes:
        here: at the pose itself, by region, ``(R,)``.
        ahead, behind: one limit away, ``(t, R)``.
        reach: ``(t,)`` how far that is in tangent coordinates.
    """

    here: Array
    ahead: Array
    behind: Array
    reach: Array

    @property
    def falls(self) -> Array:
        """How much each region's information falls on the way, ``(2t, R)``."""
        return self.here - np.concatenate([self.ahead, self.behind])

    @property
    def steepness(self) -> Array:
        """Slope of each region's information at the pose by the tangent coordinates, ``(R, t)``."""
        return ((self.ahead - self.behind) / (2 * self.reach[:, None])).T

    @property
    def bend(self) -> Array:
        """Minus the second derivative of the merit along each generator, ``(t,)``, over the distance of one limit."""
        fall = (2 * self.here - self.ahead - self.behind).sum(-1) / self.reach**2
        return np.maximum(fall, LEAST_CURVATURE * max(float(np.abs(fall).max()), TINY))

    @property
    def covariance(self) -> Array:
        """Of the tangent coordinates, ``(t, t)``: the clustered sandwich ``H^-1 J H^-1`` (Liang & Zeger, 1986, Eq. 7).

        The optimum solves "the regions' slopes sum to zero": J is the scatter of these slopes, H the bend along each generator.
        """
        rest = self.steepness - self.steepness.mean(0)
        count = len(rest)
        scatter = np.einsum("rt,ru->tu", rest, rest) * (count / max(count - 1, 1))
        return scatter / (self.bend[:, None] * self.bend)


def surroundings(evidence: Evidence, objective: Objective) -> Surroundings:
    """Look one limit away from the judged pose along every generator."""
    poses, reach = one_limit_away(evidence)
    sums, size = regional_information(objective, poses, evidence.spatial_dims), len(reach)
    return Surroundings(sums[0], sums[1 : size + 1], sums[size + 1 :], reach)


def one_limit_away(evidence: Evidence) -> tuple[Array, Array]:
    """The judged pose, then those one limit ahead of it along each generator and those behind, ``(1 + 2t, 4, 4)``; and how far in
    tangent coordinates that is, ``(t,)``."""
    speed = np.linalg.norm(derivatives_of(evidence.foreground, evidence.pose, evidence.basis), axis=-1).mean(0)
    reach = evidence.limit_mm / np.maximum(speed, TINY)
    steps = np.concatenate([np.zeros((1, len(reach))), np.diag(reach), -np.diag(reach)])
    return moved_along(np.tile(evidence.pose, (len(steps), 1, 1)), steps, evidence.basis), reach
