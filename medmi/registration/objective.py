"""The objective at one pyramid level: poses in, scores and their derivatives out; the whole volume is never touched.

A *pose* is a 4x4 matrix from centred fixed world (mm minus the solver's centre) to moving world. *Overlap* is the share of the drawn
points that fall inside the moving image. *Excess* is the similarity above that of unrelated images. *Merit* ranks poses: the
information of a point times the overlap, so that no pose wins by moving a difficult part out of sight, nor by shrinking one image into
the other's view.

*Value* is what is climbed: the excess times the share of points that are not lost over a *background rim*. Where the moving image ends in
background, the body has ended before, and a point that leaves there takes with it what the image does tell about it: of
mutual information the value is then what the moving image tells about all points together. Where the image ends in tissue it might go
on just as well, so neither losing nor gaining points there may draw the pose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medmi.registration.drawing import Drawn
from medmi.registration.kept_cpu import keep, pull_back
from medmi.registration.levels import Volume
from medmi.registration.motion import determinants
from medmi.registration.terms import Samples, Term

Array = np.ndarray
# Points of all poses that one call of the compiled loops takes with gradients and without, or of as many as there are threads: their
# interpolated values still fit the processor's cache. Poses come in multiples of the threads, or some would wait for the others.
BATCH, VALUES_BATCH = 65536, 262144
# Fewer points of all poses than this for each thread are not shared out.
LEAST = 1024
# Share of the robust range under which values are background.
BACKGROUND = 0.35


@dataclass(frozen=True)
class Scores:
    """Of B poses: similarity, overlap from 0 to 1, merit and value, each ``(B,)``; gradient ``(B, 4, 4)`` of the value, or zero."""

    similarity: Array
    overlap: Array
    merit: Array
    value: Array
    gradient: Array

    @property
    def best(self) -> int:
        """Which pose has the highest merit."""
        return int(self.ranked[0])

    @property
    def ranked(self) -> Array:
        """The poses from the highest merit down ``(B,)``; one that has none comes last."""
        return np.argsort(-np.where(np.isnan(self.merit), -np.inf, self.merit), kind="stable")


@dataclass(frozen=True)
class Objective:
    """Points drawn from the fixed image and the moving volume that they are looked up in.

    Attributes:
        term: the similarity, maximised.
        samples: what the term needs of the fixed image.
        points: ``(3, N)`` float32, fixed world mm minus the centre.
        moving: the moving volume.
        to_index: ``(4, 4)`` moving world to moving index.
        threads: how many share the poses of one call; the results do not depend on it.
        share: of the fixed image's points that the drawn ones stand for; the rest counts as outside.
    """

    term: Term
    samples: Samples
    points: Array
    moving: Volume
    to_index: Array
    threads: int = 1
    share: float = 1.0

    def __call__(self, poses: Array, gradient: bool = True) -> Scores:
        """Evaluate poses ``(B, 4, 4)``."""
        most = BATCH if gradient else VALUES_BATCH
        size = max(self.threads, most // self.points.shape[1] // self.threads * self.threads)
        if len(poses) <= size:
            return Scores(*self._evaluate(poses, gradient))
        chunks = [poses[first : first + size] for first in range(0, len(poses), size)]
        parts = [self._evaluate(chunk, gradient) for chunk in chunks]
        return Scores(*(np.concatenate(rows) for rows in zip(*parts)))

    def _evaluate(self, poses: Array, gradient: bool) -> tuple[Array, ...]:
        matrices, count = self.to_index @ poses, self.points.shape[1]
        threads = max(1, min(self.threads, len(poses) * count // LEAST))
        kept = keep(self.moving.pairs, self.moving.mask_pairs, self.rim, matrices, self.points, gradient, threads)
        left, missing = kept.sums / count * np.array([[self.share], [1.0]])
        similarity, by_value, by_weight = self.term.evaluate(kept, self.samples, gradient)
        excess = similarity - self.term.unrelated(self.samples)
        slopes = np.zeros((len(poses), 4, 4))
        if by_value is not None and by_weight is not None:
            factors = np.stack([1 - missing, excess / count]).astype(np.float32)
            slopes = self.to_index.T @ pull_back(kept, by_value, by_weight, factors, matrices, self.points)
        merit = merit_of(self.term.information(similarity, self.samples), left, poses)
        return similarity, left, merit, excess * (1 - missing), slopes

    def lost(self, pose: Array) -> float:
        """The share of the points, 0 to 1, that a pose ``(4, 4)`` loses over a background rim, whether the term counts them or not."""
        matrices = (self.to_index @ pose)[None]
        kept = keep(self.moving.pairs, self.moving.mask_pairs, self.background, matrices, self.points, False, 1)
        return float(kept.sums[1, 0]) / self.points.shape[1]

    @cached_property
    def rim(self) -> Array:
        """Values ``(C,)`` under which the rim of the moving image is background to the term."""
        return self.background if self.term.rim else np.full(len(self.moving.low), -np.inf, np.float32)

    @cached_property
    def background(self) -> Array:
        """Values ``(C,)`` under which the moving image is background; a mask says itself what counts."""
        moving = self.moving
        if moving.mask.size:
            return np.full(len(moving.low), -np.inf, np.float32)
        return moving.low + np.float32(BACKGROUND) * (moving.high - moving.low)


def make_objective(term: Term, drawn: Drawn, moving: Volume, centre: Array, bins: int, threads: int) -> Objective:
    """The objective of a term on drawn points and the moving volume of the same level."""
    samples = Samples(
        look_up=lambda: np.ascontiguousarray(drawn.values, np.float32),
        positions=np.ascontiguousarray(drawn.heights, np.float32) * np.float32(bins - 1),
        low=moving.low,
        scale=((bins - 1) / (moving.high - moving.low)).astype(np.float32),
        bins=bins,
        unrelated_difference=lambda: unrelated_difference(drawn.values, moving),
    )
    return Objective(term, samples, drawn.centred(centre), moving, np.linalg.inv(moving.to_world), threads, drawn.share)


def merit_of(information: Array, overlap: Array, poses: Array) -> Array:
    """The information of a point times the overlap, ``(B,)``, whose volume counts in the image where it is the smaller."""
    return information * overlap * smaller_volume(poses)


def smaller_volume(poses: Array) -> Array:
    """How large a volume of the fixed image is in the smaller of both images, against itself: ``(B,)``, at most 1.

    So sizes are ranked alike whichever of two images is the fixed one, and shrinking either into the other's view wins nothing.
    """
    # A volume of the fixed image grows by the determinant; the perspective row leaves it so at the centre but for its last entry.
    growth = np.empty(len(poses))
    determinants(poses, growth)
    with np.errstate(invalid="ignore"):  # of a pose that is not finite
        return np.minimum(1, growth / poses[:, 3, 3] ** 3)


def unrelated_difference(fixed: Array, moving: Volume) -> float:
    """Mean squared difference that values ``(C, N)`` have, summed over channels, to voxels drawn independently of them."""
    mean, variance = moving.moments
    return float((fixed.var(1, dtype=np.float64) + variance + (fixed.mean(1, dtype=np.float64) - mean) ** 2).sum())
