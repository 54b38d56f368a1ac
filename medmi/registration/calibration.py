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
    -4.1233,
    MappingProxyType(
        {
            "spread": -0.6819,
            "middle_fall": 0.3996,
            "fine_fall": 1.1634,
            "relative_fall": 0.3375,
            "lead": 0.475,
            "view": 0.2383,
            "held": 1.4389,
            "search": -0.4685,
            "restart": -0.1409,
        }
    ),
)
ERROR = Reading(
    0.779,
    MappingProxyType(
        {
            "spread": 0.2671,
            "fine_fall": -0.1579,
            "relative_fall": -0.3759,
            "lead": -0.1272,
            "held": -0.2295,
            "search": 0.1366,
            "restart": 0.6839,
        }
    ),
)
