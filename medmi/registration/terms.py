"""Similarity terms on sampled points, each a row: what it is worth at each pose, and its derivative by each moved value.

All are *maximised* here. Values come in batches of poses: the fixed ones ``(C, N)``, and of each pose the moved ones that are
:class:`~medmi.registration.kept_cpu.Kept`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medmi.registration import histogram_cpu, terms_torch
from medmi.registration.kept_cpu import Kept, LookUp
from medmi.registration.terms_torch import TensorEvaluation

Array = np.ndarray


@dataclass(frozen=True)
class Samples:
    """Fixed values at the drawn points, and the moving values' range: all that a term needs besides the moved values.

    Attributes:
        look_up: tells ``fixed``, which not every term needs.
        positions: fixed bin positions ``(C, N)`` float32 in [0, bins - 1].
        low, scale: ``(C,)`` float32: ``(value - low) * scale`` is the moving bin position.
        bins: bins along each axis of the joint histogram.
        unrelated_difference: tells the mean squared difference that values drawn independently have.
    """

    look_up: Callable[[], Array]
    positions: Array
    low: Array
    scale: Array
    bins: int
    unrelated_difference: Callable[[], float] = float

    @cached_property
    def fixed(self) -> Array:
        """Fixed values ``(C, N)`` float32."""
        return self.look_up()


Evaluated = tuple[Array, Array | None, Array | None]
Evaluation = Callable[[Kept, Samples, bool], Evaluated]
Glance = Callable[[LookUp, Samples], tuple[Array, Array]]
Information = Callable[[Array, Samples], Array]


@dataclass(frozen=True)
class Term:
    """A similarity.

    Attributes:
        evaluate: of the kept points, samples and whether derivatives are asked: its values ``(B,)`` and the derivatives by the moved
            values ``(C, B, N)`` and by the weights of the edges ``(B, N)``, or None.
        glance: of points at poses and samples its values ``(B,)``, and the ``sums (2, B)`` of what would be kept, in less time than keeping
            them takes; or None.
        on_tensors: of the moved values, their weights and samples on a device, without derivatives: its values ``(B,)``.
        unrelated: its value for images that share nothing.
        information: of its values ``(B,)``: what a point of the overlap tells, in nat or about so; above 0 where images share something.
            Only information may be weighed against the overlap.
        rim: whether points lost over a background rim count as lost information.
        stiffness: price of changing sizes, see :mod:`medmi.registration.stiffness`; 0: none.
    """

    evaluate: Evaluation
    on_tensors: TensorEvaluation
    unrelated: Callable[[Samples], float]
    information: Information
    glance: Glance | None = None
    rim: bool = False
    stiffness: float = 0.0


TINY, ROUNDING = histogram_cpu.TINY, 1e-12
# Share of the values' variance under which a difference tells no more: equal images tell 2.3 nat a point, about as much as a joint
# histogram can hold, and not without end, or a perfect fit of a small part would beat a fair one of all.
ALIKE = 1e-2


def histogram_evaluation(normalised: bool) -> Evaluation:
    """The evaluation of mutual information, normalised or not, of the joint histogram over the overlap, summed over channels."""

    def evaluate(kept: Kept, samples: Samples, derivative: bool) -> Evaluated:
        windows = samples.positions, samples.low, samples.scale
        return histogram_cpu.inform_points(kept, windows, samples.bins, normalised, derivative)

    return evaluate


def histogram_glance(normalised: bool) -> Glance:
    """The same values as of :func:`histogram_evaluation`, of points that are not kept."""

    def glance(look_up: LookUp, samples: Samples) -> tuple[Array, Array]:
        windows = samples.positions, samples.low, samples.scale
        return histogram_cpu.inform_poses(look_up, windows, samples.bins, normalised)

    return glance


def squared_difference(kept: Kept, samples: Samples, derivative: bool) -> Evaluated:
    """Minus the mean squared difference over the overlap, summed over channels."""
    fixed, moved, weights = _filled(kept, samples)
    mass = np.maximum(weights.sum(1, dtype=np.float64), TINY)[:, None]
    residual = moved - fixed
    squares = np.square(residual, dtype=np.float64).sum(0)
    score = -(squares * weights).sum(1, keepdims=True) / mass
    if not derivative:
        return score[:, 0], None, None
    return score[:, 0], *_slopes(kept, residual * (-2 * weights / mass), (-squares - score) / mass)


def cross_correlation(kept: Kept, samples: Samples, derivative: bool) -> Evaluated:
    """Pearson's correlation over the overlap, summed over channels; 0 where either image is flat there."""
    fixed, moved, weights = _filled(kept, samples)
    share = weights / np.maximum(weights.sum(1, keepdims=True, dtype=np.float64), TINY)

    def standardised(x: Array) -> tuple[Array, Array]:
        """Deviations from the mean over the standard deviation, 0 where there is none; the latter."""
        rest = x - (x * share).sum(-1, keepdims=True)
        variance = (rest * rest * share).sum(-1, keepdims=True)
        # Relative to the values, so that their unit does not matter: what is left under this is float32's rounding.
        varies = variance > ROUNDING * (x * x * share).sum(-1, keepdims=True)
        deviation = np.sqrt(np.where(varies, variance, 1))
        return np.where(varies, rest / deviation, 0), deviation

    f, _ = standardised(fixed.astype(np.float64))
    m, deviation = standardised(moved.astype(np.float64))
    correlation = (f * m * share).sum(-1, keepdims=True)
    if not derivative:
        return correlation.sum((0, 2)), None, None
    by_value = (f - correlation * m) * share / deviation * (m != 0).any(-1, keepdims=True)
    by_weight = (f * m - correlation / 2 * (f * f + m * m)).sum(0) / np.maximum(weights.sum(1, keepdims=True), TINY)
    return correlation.sum((0, 2)), *_slopes(kept, by_value, by_weight)


def _filled(kept: Kept, samples: Samples) -> tuple[Array, Array, Array]:
    """Fixed and moving values ``(C, B, M)`` and weights ``(B, M)`` of the kept points, 0 where a pose keeps fewer than M."""
    most = int(kept.counts[0].max())
    there = np.arange(most) < kept.counts[0][:, None]
    places = np.where(there, kept.places[:, :most], 0)
    fixed, moved, weights = (
        np.where(there, a, np.float32(0))
        for a in (samples.fixed[:, places], kept.values[:, :, :most], kept.weights[:, :most])
    )
    return fixed, moved, weights


def _slopes(kept: Kept, by_value: Array, by_weight: Array) -> tuple[Array, Array]:
    """Derivatives by the values, and by the weights of the edges."""
    edges = np.where(np.arange(kept.edges.shape[1]) < kept.counts[1][:, None], kept.edges, 0)
    return by_value.astype(np.float32), np.take_along_axis(by_weight, edges, 1).astype(np.float32)


def informed(values: Array, samples: Samples) -> Array:
    """Of mutual information: itself."""
    return values


def above_one(values: Array, samples: Samples) -> Array:
    """Of its normalised form: what it is above 1 in each channel."""
    return values - len(samples.positions)


def correlated(values: Array, samples: Samples) -> Array:
    """Mutual information ``-log(1 - r^2) / 2`` of normal values of correlation r, with the sign of r; summed over channels of like r.

    Source: Gelfand & Yaglom 1957, Eq. 2.14.
    """
    r = values / len(samples.positions)
    return -len(samples.positions) * np.sign(r) * np.log(np.maximum(1 - r * r, ALIKE)) / 2


def explained(values: Array, samples: Samples) -> Array:
    """What normal differences lose in entropy, ``log(u / d) / 2``, as their mean square falls from u, drawn independently, to d."""
    unrelated = samples.unrelated_difference()
    return np.log(unrelated / np.maximum(-values, ALIKE * unrelated)) / 2


TERMS: dict[str, Term] = {
    "mi": Term(
        histogram_evaluation(normalised=False),
        terms_torch.mutual_information,
        lambda samples: 0.0,
        informed,
        histogram_glance(normalised=False),
        rim=True,
        stiffness=16.0,
    ),
    "nmi": Term(
        histogram_evaluation(normalised=True),
        terms_torch.normalized_mutual_information,
        lambda samples: float(len(samples.positions)),
        above_one,
        histogram_glance(normalised=True),
        rim=True,
        stiffness=4.0,
    ),
    "ncc": Term(cross_correlation, terms_torch.cross_correlation, lambda samples: 0.0, correlated),
    "ssd": Term(
        squared_difference,
        terms_torch.squared_difference,
        lambda samples: -samples.unrelated_difference(),
        explained,
    ),
}
