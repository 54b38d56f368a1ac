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

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from medmi.registration.drawing import Drawn
from medmi.registration.kept_cpu import LookUp, keep, pull_back
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
        return int(np.fmax(self.merit, -np.inf).argmax())

    @property
    def ranked(self) -> Array:
        """The poses from the highest merit down ``(B,)``; one that has none comes last."""
        return np.argsort(-np.fmax(self.merit, -np.inf), kind="stable")


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
        if self.term.glance is not None and not gradient:
            similarity, sums = self.term.glance(self._look_up(poses, self.rim), self.samples)
            return self._scores(poses, similarity, sums)
        most = BATCH if gradient else VALUES_BATCH
        size = max(self.threads, most // self.points.shape[1] // self.threads * self.threads)
        parts = [self._evaluate(poses[first : first + size], gradient) for first in range(0, len(poses), size)]
        return parts[0] if len(parts) == 1 else joined(parts)

    def _look_up(self, poses: Array, rim: Array) -> LookUp:
        threads = max(1, min(self.threads, len(poses) * self.points.shape[1] // LEAST))
        moving = self.moving
        return LookUp(moving.pairs, moving.mask_pairs, rim, self.to_index @ poses, self.points, threads)

    def _evaluate(self, poses: Array, gradient: bool) -> Scores:
        look_up = self._look_up(poses, self.rim)
        kept = keep(look_up, gradient)
        similarity, by_value, by_weight = self.term.evaluate(kept, self.samples, gradient)
        scores = self._scores(poses, similarity, kept.sums)
        if by_value is None or by_weight is None:
            return scores
        count, factors = self.points.shape[1], np.empty((2, len(poses)), np.float32)
        factors[0], factors[1] = 1 - kept.sums[1] / count, self._excess(similarity) / count
        slopes = pull_back(kept, by_value, by_weight, factors, look_up.matrices, self.points)
        np.matmul(self.to_index.T, slopes, out=scores.gradient)
        return scores

    def _excess(self, similarity: Array) -> Array:
        return similarity - self.term.unrelated(self.samples)

    def _scores(self, poses: Array, similarity: Array, sums: Array) -> Scores:
        """Of poses, without gradients; ``sums (2, B)`` as of :class:`~medmi.registration.kept_cpu.Kept`."""
        left, missing = sums / self.points.shape[1]
        left *= self.share
        merit = merit_of(self.term.information(similarity, self.samples), left, poses)
        return Scores(similarity, left, merit, self._excess(similarity) * (1 - missing), np.zeros((len(poses), 4, 4)))

    def lost(self, pose: Array) -> float:
        """The share of the points, 0 to 1, that a pose ``(4, 4)`` loses over a background rim, whether the term counts them or not."""
        kept = keep(self._look_up(pose[None], self.background), False)
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


def joined(parts: list[Scores]) -> Scores:
    """Of batches of poses, one after the other."""
    return Scores(*(np.concatenate([getattr(part, row.name) for part in parts]) for row in fields(Scores)))


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
