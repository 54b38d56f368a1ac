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
    -2.1761,
    MappingProxyType(
        {
            "spread": -0.4585,
            "fine_fall": 1.1472,
            "relative_fall": 0.5329,
            "lead": 0.4259,
            "edge_fall": 10.4106,
            "edge_lead": 0.5104,
            "view": 0.5531,
            "search": -0.2048,
            "restart": -0.5478,
        }
    ),
)
ERROR = Reading(
    0.755,
    MappingProxyType(
        {
            "spread": 0.2113,
            "fine_fall": -0.0659,
            "relative_fall": -0.4849,
            "lead": -0.0888,
            "edge_fall": -3.5237,
            "edge_lead": -0.8327,
            "held": -0.4736,
            "search": 0.1409,
            "restart": 0.3419,
        }
    ),
)
