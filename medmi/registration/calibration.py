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
    -3.8734,
    MappingProxyType(
        {
            "spread": -0.8983,
            "middle_fall": 1.3294,
            "fine_fall": 0.1557,
            "relative_fall": 0.3487,
            "lead": 0.6413,
            "search": -0.2239,
            "restart": -0.681,
        }
    ),
)
ERROR = Reading(
    -0.2902,
    MappingProxyType(
        {
            "spread": 0.0655,
            "relative_fall": -0.5996,
            "lead": -0.1957,
            "search": 0.0793,
            "restart": 0.9145,
        }
    ),
)
