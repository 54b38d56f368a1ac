"""Similarity terms on sampled points, each a row: what it is worth at each pose, and its derivative by each moved value.

All are *maximised* here. Values come in batches of poses: moved ``(B, C, N)``, fixed ``(C, N)``, inside ``(B, N)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medmi.registration import kernels_cpu

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


@dataclass(frozen=True)
class Term:
    """A similarity: ``evaluate(moved, inside, samples, derivative)`` gives its values ``(B,)`` and, where asked, dS/dmoved
    ``(B, C, N)``; ``unrelated(samples)`` is its value for images that share nothing."""

    evaluate: Evaluation
    unrelated: Callable[[Samples], float]


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


def histogram_evaluation(of_tables: Callable[[Array], tuple[Array, Array]]) -> Evaluation:
    """The evaluation of a function of the joint histogram over the overlap, summed over channels."""

    def evaluate(moved: Array, inside: Array, samples: Samples, derivative: bool) -> tuple[Array, Array]:
        tables = np.empty((*moved.shape[:2], samples.bins, samples.bins))
        kernels_cpu.histogram(moved, inside, samples.positions, samples.low, samples.scale, tables)
        kept = np.maximum(kernels_cpu.counted(inside), 1)[:, None, None, None]
        value, slope = of_tables(tables / kept)
        out = np.empty(moved.shape if derivative else (0, 0, 0), np.float32)
        if derivative:
            slopes = (np.diff(slope, axis=-1) / kept).astype(np.float32)
            kernels_cpu.histogram_derivative(moved, inside, samples.positions, samples.low, samples.scale, slopes, out)
        return value.sum(1), out

    return evaluate


def squared_difference(moved: Array, inside: Array, samples: Samples, derivative: bool) -> tuple[Array, Array]:
    """Minus the mean squared difference over the overlap, summed over channels."""
    kept = np.maximum(kernels_cpu.counted(inside), 1).astype(np.float64)
    residual = np.where(inside[:, None] > 0, moved - samples.fixed, np.float32(0))
    score = -np.square(residual, dtype=np.float64).sum((1, 2)) / kept
    return score, (residual * (-2 / kept)[:, None, None]).astype(np.float32)


def cross_correlation(moved: Array, inside: Array, samples: Samples, derivative: bool) -> tuple[Array, Array]:
    """Pearson's correlation over the overlap, summed over channels; 0 where either image is flat there."""
    weight = inside[:, None].astype(np.float64)
    kept = np.maximum(weight.sum(2, keepdims=True), 1)

    def centred(x: Array) -> tuple[Array, Array, Array]:
        kept_x = x * weight
        rest = (x - kept_x.sum(2, keepdims=True) / kept) * weight
        energy = (rest * rest).sum(2, keepdims=True)
        # Relative to the values, so that their unit does not matter: what is left under this is float32's rounding.
        varies = energy > ROUNDING * (kept_x * kept_x).sum(2, keepdims=True)
        return rest, np.sqrt(np.where(varies, energy, 1)), varies

    f, norm_f, f_varies = centred(samples.fixed[None].astype(np.float64))
    m, norm_m, m_varies = centred(moved.astype(np.float64))
    correlation = np.where(f_varies & m_varies, (f * m).sum(2, keepdims=True) / (norm_f * norm_m), 0)
    slope = np.where(f_varies & m_varies, (f / norm_f - correlation * m / norm_m) / norm_m, 0)
    return correlation.sum((1, 2)), slope.astype(np.float32)


TERMS: dict[str, Term] = {
    "mi": Term(histogram_evaluation(mutual_information_of), lambda samples: 0.0),
    "nmi": Term(histogram_evaluation(normalized_mutual_information_of), lambda samples: float(len(samples.fixed))),
    "ncc": Term(cross_correlation, lambda samples: 0.0),
    "ssd": Term(squared_difference, lambda samples: -samples.unrelated_difference()),
}
