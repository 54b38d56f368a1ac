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
    -2.9958,
    MappingProxyType(
        {
            "spread": -0.5712,
            "fine_fall": 1.0206,
            "relative_fall": 0.1241,
            "lead": 0.4244,
            "edge_fall": 12.6163,
            "edge_lead": 0.2202,
            "view": 1.0016,
            "held": 0.0141,
            "search": -0.2642,
            "restart": -0.4297,
        }
    ),
)
ERROR = Reading(
    0.8078,
    MappingProxyType(
        {
            "spread": 0.2276,
            "relative_fall": -0.4056,
            "lead": -0.1092,
            "edge_fall": -2.9597,
            "edge_lead": -0.5784,
            "view": -0.0379,
            "held": -0.4191,
            "search": 0.1316,
            "restart": 0.5052,
        }
    ),
)
