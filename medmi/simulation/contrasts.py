"""How bright each tissue is to each kind of scanner, and what noise comes with it: one row a contrast.

The values are of the right order and rank, not measurements: T1 and T2 in arbitrary units, PET in standardised
uptake, ultrasound as echo amplitude relative to a strong reflector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from medmi.simulation.noise import poisson, rician, speckled

Scan = Callable[[torch.Tensor, Sequence[float], float, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Contrast:
    """Mean of each tissue in the order of ``TISSUES``, default noise and bias, and what its scanner does to them."""

    means: tuple[float, ...]
    noise: float
    bias: float
    scan: Scan


# means:  air, skin, fat, muscle, skull, marrow, csf, grey, white, deep, ventricle, eye, lesion
CONTRASTS: dict[str, Contrast] = {
    "t1": Contrast((0, 480, 900, 400, 50, 560, 150, 470, 700, 560, 110, 120, 330), 0.02, 0.20, rician),
    "t2": Contrast((0, 330, 620, 230, 40, 360, 920, 520, 370, 410, 1000, 960, 800), 0.025, 0.25, rician),
    "pet": Contrast((0, 0.5, 0.3, 1.0, 0.3, 0.9, 0.4, 8.0, 2.6, 8.8, 0.3, 0.6, 11.0), 0.15, 0.0, poisson),
    "ultrasound": Contrast((0.01, 0.7, 0.5, 0.4, 1.0, 0.6, 0.05, 0.3, 0.5, 0.4, 0.03, 0.04, 0.8), 1.0, 0.3, speckled),
}
"""Contrasts by name. Default noise as in ``HeadPhantom.image``."""
