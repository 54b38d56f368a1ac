"""Similarity terms on sampled points, each a row: what it is worth at each pose, and its derivative by each moved value.

All are *maximised* here. Values come in batches of poses: moved ``(C, B, N)``, fixed ``(C, N)``, weights ``(B, N)`` from 0 outside the
moving image to 1 inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from medmi.registration import histogram_cpu, terms_torch
from medmi.registration.terms_torch import TensorEvaluation

Array = np.ndarray


@dataclass(frozen=True)
class Samples:
    """Fixed values at the drawn points, and the moving values' range: all that a term needs besides the moved values.

    Attributes:
        fixed: ``(C, N)`` float32.
        positions: fixed bin positions ``(C, N)`` float32 in [0, bins - 1].
        low, scale: ``(C,)`` float32: ``(value - low) * scale`` is the moving bin position.
        bins: bins along each axis of the joint histogram.
        unrelated_difference: tells the mean squared difference that values drawn independently have.
    """

    fixed: Array
    positions: Array
    low: Array
    scale: Array
    bins: int
    unrelated_difference: Callable[[], float] = float


Evaluation = Callable[[Array, Array, Samples, bool], tuple[Array, Array]]
Information = Callable[[Array, Samples], Array]


@dataclass(frozen=True)
class Term:
    """A similarity.

    Attributes:
        evaluate: of moved values, weights, samples and whether derivatives are asked: its values ``(B,)`` and the derivatives ``(C + 1, B,
            N)`` by the moved values and, last, by the weights.
        on_tensors: of the same on a device, without derivatives: its values ``(B,)``.
        unrelated: its value for images that share nothing.
        information: of its values ``(B,)``: what a point of the overlap tells, in nat or about so; above 0 where images share something.
            Only information may be weighed against the overlap.
        rim: whether points lost over a background rim count as lost information.
    """

    evaluate: Evaluation
    on_tensors: TensorEvaluation
    unrelated: Callable[[Samples], float]
    information: Information
    rim: bool = False


def mutual_information_of(tables: Array) -> tuple[Array, Array]:
    """MI in nat of joint probabilities ``(..., bins, bins)`` and its derivative by each entry, up to a constant.

    >>> value, _ = mutual_information_of(np.eye(2) / 2)
    >>> round(float(value), 6)
    0.693147
    """
    rows, columns = tables.sum(-1, keepdims=True), tables.sum(-2, keepdims=True)
    ratio = np.log(np.maximum(tables, TINY)) - np.log(np.maximum(rows, TINY)) - np.log(np.maximum(columns, TINY))
    return (tables * ratio).sum((-1, -2)), ratio


def normalized_mutual_information_of(tables: Array) -> tuple[Array, Array]:
    """NMI = (H(x) + H(y)) / H(x, y), from 1 to 2, and its derivative by each entry, up to a constant."""
    rows, columns = tables.sum(-1, keepdims=True), tables.sum(-2, keepdims=True)
    logs = [np.log(np.maximum(t, TINY)) for t in (rows, columns, tables)]
    h_rows, h_columns, joint = (
        -(t * log).sum((-1, -2), keepdims=True) for t, log in zip((rows, columns, tables), logs)
    )
    joint = np.maximum(joint, TINY)
    value = (h_rows + h_columns) / joint
    return value[..., 0, 0], (value * logs[2] - logs[0] - logs[1]) / joint


TINY, ROUNDING = 1e-12, 1e-12
# Share of the values' variance under which a difference tells no more: equal images tell 2.3 nat a point, about as much as a joint
# histogram can hold, and not without end, or a perfect fit of a small part would beat a fair one of all.
ALIKE = 1e-2


def histogram_evaluation(of_tables: Callable[[Array], tuple[Array, Array]]) -> Evaluation:
    """The evaluation of a function of the joint histogram over the overlap, summed over channels."""

    def evaluate(moved: Array, weights: Array, samples: Samples, derivative: bool) -> tuple[Array, Array]:
        channels, poses, count = moved.shape
        tables = np.empty((channels, poses, samples.bins, samples.bins))
        histogram_cpu.histogram(moved, weights, samples.positions, samples.low, samples.scale, tables)
        kept = np.maximum(tables[0].sum((-1, -2)), TINY)[:, None, None]
        tables /= kept
        value, slope = of_tables(tables)
        out = np.empty((channels + 1, poses, count) if derivative else (0, 0, 0), np.float32)
        if derivative:
            # Of tables that sum to one: what all points have in common is none of a single one's.
            slopes = ((slope - (tables * slope).sum((-1, -2), keepdims=True)) / kept).astype(np.float32)
            histogram_cpu.look_up(moved, weights, samples.positions, samples.low, samples.scale, slopes, out)
        return value.sum(0), out

    return evaluate


def squared_difference(moved: Array, weights: Array, samples: Samples, derivative: bool) -> tuple[Array, Array]:
    """Minus the mean squared difference over the overlap, summed over channels."""
    kept = np.maximum(weights.sum(1, dtype=np.float64), TINY)[:, None]
    residual = moved - samples.fixed[:, None]
    squares = np.square(residual, dtype=np.float64).sum(0)
    score = -(squares * weights).sum(1, keepdims=True) / kept
    by_value, by_weight = residual * (-2 * weights / kept), (-squares - score) / kept
    return score[:, 0], np.concatenate([by_value, by_weight[None]]).astype(np.float32)


def cross_correlation(moved: Array, weights: Array, samples: Samples, derivative: bool) -> tuple[Array, Array]:
    """Pearson's correlation over the overlap, summed over channels; 0 where either image is flat there."""
    share = weights / np.maximum(weights.sum(1, keepdims=True, dtype=np.float64), TINY)

    def standardised(x: Array) -> tuple[Array, Array]:
        """Deviations from the mean over the standard deviation, 0 where there is none; the latter."""
        rest = x - (x * share).sum(-1, keepdims=True)
        variance = (rest * rest * share).sum(-1, keepdims=True)
        # Relative to the values, so that their unit does not matter: what is left under this is float32's rounding.
        varies = variance > ROUNDING * (x * x * share).sum(-1, keepdims=True)
        deviation = np.sqrt(np.where(varies, variance, 1))
        return np.where(varies, rest / deviation, 0), deviation

    f, _ = standardised(samples.fixed[:, None].astype(np.float64))
    m, deviation = standardised(moved.astype(np.float64))
    correlation = (f * m * share).sum(-1, keepdims=True)
    by_value = (f - correlation * m) * share / deviation * (m != 0).any(-1, keepdims=True)
    by_weight = (f * m - correlation / 2 * (f * f + m * m)).sum(0) / np.maximum(weights.sum(1, keepdims=True), TINY)
    return correlation.sum((0, 2)), np.concatenate([by_value, by_weight[None]]).astype(np.float32)


def informed(values: Array, samples: Samples) -> Array:
    """Of mutual information: itself."""
    return values


def above_one(values: Array, samples: Samples) -> Array:
    """Of its normalised form: what it is above 1 in each channel."""
    return values - len(samples.fixed)


def correlated(values: Array, samples: Samples) -> Array:
    """Mutual information ``-log(1 - r^2) / 2`` of normal values of correlation r, with the sign of r; summed over channels of like r.

    Source: Gelfand & Yaglom 1957, Eq. 2.14.
    """
    r = values / len(samples.fixed)
    return -len(samples.fixed) * np.sign(r) * np.log(np.maximum(1 - r * r, ALIKE)) / 2


def explained(values: Array, samples: Samples) -> Array:
    """What normal differences lose in entropy, ``log(u / d) / 2``, as their mean square falls from u, drawn independently, to d."""
    unrelated = samples.unrelated_difference()
    return np.log(unrelated / np.maximum(-values, ALIKE * unrelated)) / 2


TERMS: dict[str, Term] = {
    "mi": Term(
        histogram_evaluation(mutual_information_of),
        terms_torch.mutual_information,
        lambda samples: 0.0,
        informed,
        rim=True,
    ),
    "nmi": Term(
        histogram_evaluation(normalized_mutual_information_of),
        terms_torch.normalized_mutual_information,
        lambda samples: float(len(samples.fixed)),
        above_one,
        rim=True,
    ),
    "ncc": Term(cross_correlation, terms_torch.cross_correlation, lambda samples: 0.0, correlated),
    "ssd": Term(
        squared_difference,
        terms_torch.squared_difference,
        lambda samples: -samples.unrelated_difference(),
        explained,
    ),
}


def for_sizes(term: Term, scales: tuple[float, ...]) -> Term:
    """The term for a family that changes sizes or not: one that does could win points at the rim by shrinking the fixed image into view.

    Args:
        term: any.
        scales: sizes that the family's search tries.
    """
    return term if len(scales) == 1 else replace(term, rim=False)
