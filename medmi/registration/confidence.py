"""How likely a registration is right: measurements around its pose, and a calibrated reading of them.

Words: the *limit* is the mean error over the foreground (Otsu) up to which a registration counts as right: 2 mm, or twice the geometric
mean of the fixed spacing where that is more. A *rival* is another optimum, more than one limit away. *Measurements* are ratios to the
limit and significances: they know neither the unit of the similarity nor the contrast of the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_ndtr, logit

from medmi.registration.calibration import CONFIDENCE, ERROR, Reading
from medmi.registration.edges import edge_agreement
from medmi.registration.evidence import Evidence, distances, errors_of, share_in_view
from medmi.registration.initialise import distinct
from medmi.registration.landscape import (
    Surroundings,
    held_share,
    one_limit_away,
    regional_information,
    significance,
    surroundings,
)
from medmi.registration.levels import Array
from medmi.registration.objective import Objective
from medmi.registration.probes import RIVALS, information, level_of, restarted, searched

# The two levels that are looked at, as shares of the pyramid, with the points and bins of each.
MIDDLE, MIDDLE_POINTS, MIDDLE_BINS = 0.5, 12_000, 24
FINE, FINE_POINTS, FINE_BINS = 1.0, 24_000, 32
# Ratios to the limit are read between these, and a rival's significance, so that none outweighs all else.
LEAST_RATIO, MOST_RATIO, MOST_SIGNIFICANCE = 0.02, 50.0, 5.0
LEAST_PROBABILITY = 0.01
# Of smooth images that share nothing, up to the first share of the information holds where it was not learnt. Where less than the second
# does, the fit may be chance: the confidence is bounded, by no less than the third.
HELD_BY_CHANCE, LEAST_HELD, CHANCE = 0.4, 0.5, 0.15
TINY = 1e-9


@dataclass(frozen=True)
class Rivals:
    """Other optima.

    Attributes:
        poses: ``(B, 4, 4)``.
        distances: from the judged pose, mm, ``(B,)``.
        leads: how significantly the judged pose is better, ``(B,)``.
        probabilities: that it is the right one, ``(B,)``.
    """

    poses: Array
    distances: Array
    leads: Array
    probabilities: Array

    def __getitem__(self, kept: Array) -> Rivals:
        return Rivals(self.poses[kept], self.distances[kept], self.leads[kept], self.probabilities[kept])


@dataclass(frozen=True)
class Judgement:
    """What is thought of a registration.

    Attributes:
        confidence: probability that the mean error over the foreground is under the limit.
        expected_error_mm: mean over the foreground.
        covariance: ``(t, t)`` of the tangent coordinates at the pose, scaled so that the mean error over the foreground that follows
            from it is ``expected_error_mm``.
        rivals: the more probable first.
        measurements: what all this was read from, by name.
    """

    confidence: float
    expected_error_mm: float
    covariance: Array
    rivals: Rivals
    measurements: Mapping[str, float]


def judge(evidence: Evidence) -> Judgement:
    """Judge a registration; the same evidence gives the same bits."""
    rng = np.random.default_rng([evidence.seed, 1])
    found, ends = searched(evidence, rng), restarted(evidence, rng)
    middle_points = information(evidence, MIDDLE, MIDDLE_POINTS, MIDDLE_BINS, rng)
    middle = surroundings(evidence, middle_points)
    fine_points = information(evidence, FINE, FINE_POINTS, FINE_BINS, rng)
    fine = surroundings(evidence, fine_points)
    sums = regional_information(fine_points, found, evidence.spatial_dims)
    away = distances(found, evidence.pose, evidence.foreground)
    rivals = _rivals(evidence, found, away, significance(_best_within(evidence.limit_mm, fine.here, sums, away) - sums))
    measurements = {
        **_falls(evidence, middle, fine),
        **_distances(evidence, found, ends),
        "lead": _lead(rivals),
        "edge_fall": _edge_fall(evidence, middle_points),
        "edge_lead": _edge_lead(evidence, fine_points, found, away),
        "view": _ratio(share_in_view(evidence), 1.0),
        "held": float(np.clip(held_share(fine_points, evidence.pose, evidence.spatial_dims), 0, 1)),
    }
    error = evidence.limit_mm * error_ratio_of(measurements)
    raw = float(errors_of(evidence.foreground, evidence.pose, evidence.basis, middle.covariance).mean())
    return Judgement(
        confidence=confidence_of(measurements, float(rivals.probabilities.sum())),
        expected_error_mm=error,
        covariance=middle.covariance * (error / max(raw, TINY)) ** 2,
        rivals=rivals[rivals.probabilities >= LEAST_PROBABILITY],
        measurements=measurements,
    )


def confidence_of(measurements: Mapping[str, float], rivals: float, reading: Reading = CONFIDENCE) -> float:
    """The calibrated probability, bounded by two things that no sharpness of the optimum makes up for.

    A rival that fits as well takes its share; and where less than ``LEAST_HELD`` of the information holds in regions that it was not
    learnt from, the fit is chance in proportion, altogether at ``HELD_BY_CHANCE``: down to ``CHANCE``, for a strong bias field can do
    that to a right one.
    """
    related = np.clip((measurements["held"] - HELD_BY_CHANCE) / (LEAST_HELD - HELD_BY_CHANCE), 0, 1)
    bound = CHANCE + (1 - CHANCE) * float(related)
    return min(float(expit(read(reading, measurements))), 1 - rivals, bound)


def error_ratio_of(measurements: Mapping[str, float], reading: Reading = ERROR) -> float:
    """Expected error over the limit; in so far as little holds elsewhere, the truth may lie an object's extent away."""
    near = float(np.exp(read(reading, measurements)))
    lost = 1 - min(1.0, measurements["held"] / LEAST_HELD)
    return near + lost * max(measurements["extent"] - near, 0.0)


def read(reading: Reading, measurements: Mapping[str, float]) -> float:
    """The linear predictor of a reading."""
    return reading.intercept + sum(weight * measurements[name] for name, weight in reading.weights.items())


def rival_probabilities(significances: Array) -> Array:
    """Probability of each rival ``(B,)``, where the judged optimum beats it by that significance; what is left is the judged one's.

    A rival is the better one with probability Phi(-z), so its odds against the judged optimum are ``Phi(-z) / Phi(z)``. Together the
    rivals have the odds of the strongest, for they are chances of one and the same mistake, and share them in proportion.

    >>> rival_probabilities(np.array([0.0])).round(2).tolist()
    [0.5]
    """
    z = np.clip(significances, -MOST_SIGNIFICANCE, MOST_SIGNIFICANCE)
    odds = np.exp(log_ndtr(-z) - log_ndtr(z))
    strongest = odds.max(initial=0)
    return odds * (strongest / (1 + strongest) / max(odds.sum(), TINY))


def _best_within(limit: float, here: Array, sums: Array, away: Array) -> Array:
    """Information by region ``(R,)`` of the judged pose, or of an optimum within the limit that has more: rivals are optima, too."""
    near = np.concatenate([here[None], sums[away <= limit]])
    return near[np.argmax(near.sum(-1))]


def _rivals(evidence: Evidence, found: Array, away: Array, ahead: Array) -> Rivals:
    """The found optima more than a limit away from the judged pose and from each other; ``ahead`` is its lead on each."""
    far = np.flatnonzero(away > evidence.limit_mm)
    apart = distinct(found[far], -ahead[far], evidence.foreground, RIVALS, evidence.limit_mm)
    kept = far[apart]
    return Rivals(found[kept], away[kept], ahead[kept], rival_probabilities(ahead[kept]))


def _falls(evidence: Evidence, middle: Surroundings, fine: Surroundings) -> dict[str, float]:
    """How far the pose may stray, and how surely and how much the information falls one limit away."""
    spread = errors_of(evidence.foreground, evidence.pose, evidence.basis, middle.covariance).mean()
    return {
        "spread": _ratio(spread, evidence.limit_mm),
        "fine_fall": float(np.arcsinh(significance(fine.falls).mean())),
        "relative_fall": _ratio(fine.falls.sum(-1).mean(), max(float(fine.here.sum()), TINY)),
    }


def _distances(evidence: Evidence, found: Array, ends: Array) -> dict[str, float]:
    """How near another search came, how near other starts came back, and the size of the foreground."""
    limit, foreground = evidence.limit_mm, evidence.foreground
    spokes = np.linalg.norm(foreground - foreground.mean(0), axis=1)
    return {
        "search": _ratio(distances(found, evidence.pose, foreground).min(), limit),
        "restart": _ratio(np.median(distances(ends, evidence.pose, foreground)), limit),
        "extent": float(spokes.mean()) / limit,
    }


def _lead(rivals: Rivals) -> float:
    """Log-odds of the judged pose against all rivals."""
    others = np.clip(rivals.probabilities.sum(), TINY, 1 - TINY)
    return float(np.clip(-logit(others), -MOST_SIGNIFICANCE, MOST_SIGNIFICANCE))


def _edge_fall(evidence: Evidence, objective: Objective) -> float:
    """By what share, on average, the edges agree less one limit away from the judged pose, on the middle level."""
    poses, _ = one_limit_away(evidence)
    here, *near = edge_agreement(level_of(evidence, MIDDLE)[0], objective, poses, evidence.centre)
    return _ahead_by(here, float(np.mean(near)))


def _edge_lead(evidence: Evidence, objective: Objective, found: Array, away: Array) -> float:
    """By what share the edges agree less at the best other optimum than within the limit, on the finest level; 1 where there is none."""
    far = away > evidence.limit_mm
    poses = np.concatenate([evidence.pose[None], found])
    agreed = edge_agreement(level_of(evidence, FINE)[0], objective, poses, evidence.centre)
    return _ahead_by(max(agreed[0], agreed[1:][~far].max(initial=0)), agreed[1:][far].max(initial=0))


def _ahead_by(one: float, other: float) -> float:
    """By how much one agreement is ahead of another, as a share of the larger: from -1 to 1."""
    return float((one - other) / max(one, other, TINY))


def _ratio(value: float, unit: float) -> float:
    """Logarithm of a positive ratio, between fixed ends."""
    return float(np.log(np.clip(value / unit, LEAST_RATIO, MOST_RATIO)))
