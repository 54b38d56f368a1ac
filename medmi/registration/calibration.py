"""What the measurements of a registration are worth: frozen coefficients, fitted by ``examples/benchmarks/confidence.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Reading:
    """A linear predictor: ``intercept + sum_name weights[name] measurement[name]``."""

    intercept: float
    weights: Mapping[str, float]


# Log-odds that the mean error over the foreground is under the limit.
CONFIDENCE = Reading(
    -2.3542,
    MappingProxyType(
        {
            "spread": -0.2644,
            "fine_fall": 0.9295,
            "relative_fall": 0.5681,
            "lead": 0.3666,
            "edge_fall": 8.5638,
            "edge_lead": 1.3732,
            "view": 0.9732,
            "held": 0.6954,
            "search": -0.1894,
            "restart": -0.7622,
        }
    ),
)
ERROR = Reading(
    0.8031,
    MappingProxyType(
        {
            "spread": 0.1809,
            "fine_fall": -0.0135,
            "relative_fall": -0.4198,
            "lead": -0.0941,
            "edge_fall": -3.4453,
            "edge_lead": -0.5364,
            "view": -0.0472,
            "held": -0.4623,
            "search": 0.1193,
            "restart": 0.5465,
        }
    ),
)
