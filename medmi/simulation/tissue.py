"""What sound makes of an MR or CT voxel: acoustic impedance, scattering and absorption, one row a kind of image.

The rows are plausible, not measured: MR intensities say nothing certain of acoustics. Impedance is relative to water;
scattering is an amplitude relative to the strongest scatterer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

Knots = tuple[tuple[float, float], ...]
PERCENTILES = (0.005, 0.995)
SURVEY_VOXELS = 200_000


@dataclass(frozen=True)
class TissueModel:
    """Piecewise linear curves of a voxel's value, constant beyond their ends.

    Attributes:
        impedance: relative to water.
        scattering: amplitude of diffuse echoes, 0 to 1.
        absorption: dB per cm, both ways, on top of soft tissue's; large in bone and air.
        contact: beams couple to the body at the first value above this one; before it there is gel.
        relative: whether values are first mapped to 0..1 between the image's 0.5 and 99.5 percentiles.
    """

    impedance: Knots
    scattering: Knots
    absorption: Knots
    contact: float
    relative: bool


TISSUE_MODELS: dict[str, TissueModel] = {
    # Dark inside the body is cortical bone or air; a little brighter is fluid; fat is the brightest in T1.
    "mr": TissueModel(
        impedance=((0.0, 1.0), (1.0, 2.2)),
        scattering=((0.0, 0.0), (0.06, 0.01), (0.15, 0.03), (0.35, 0.2), (0.6, 0.5), (0.8, 1.0), (1.0, 0.7)),
        absorption=((0.03, 25.0), (0.06, 0.0)),
        contact=0.12,
        relative=True,
    ),
    # Hounsfield units; impedance follows density.
    "ct": TissueModel(
        impedance=((-980.0, 0.02), (1500.0, 2.5)),
        scattering=((-300.0, 0.0), (-120.0, 0.2), (-60.0, 0.4), (0.0, 0.03), (25.0, 0.15), (60.0, 0.6), (200.0, 1.0)),
        absorption=((-500.0, 100.0), (-300.0, 0.0), (200.0, 0.0), (400.0, 25.0)),
        contact=-300.0,
        relative=False,
    ),
}
"""Tissue models by name: MR by relative intensity, CT by Hounsfield units."""


def curve(values: torch.Tensor, knots: Knots) -> torch.Tensor:
    """Linear interpolation between ``(value, result)`` knots.

    >>> curve(torch.tensor([-1.0, 0.5, 9.0]), ((0.0, 1.0), (1.0, 3.0))).tolist()
    [1.0, 2.0, 3.0]
    """
    total = torch.full_like(values, knots[0][1])
    for (x0, y0), (x1, y1) in itertools.pairwise(knots):
        if y1 != y0:
            total.add_(values.sub(x0).div_(x1 - x0).clamp_(0, 1), alpha=y1 - y0)
    return total


def relative_range(image: torch.Tensor) -> tuple[float, float]:
    """The values that a relative model maps to 0 and 1, from every n-th voxel of ``(*spatial)``."""
    step = max(1, round((image.numel() / SURVEY_VOXELS) ** (1 / image.ndim)))
    some = image[tuple(slice(None, None, step) for _ in range(image.ndim))].double().flatten()
    low, high = torch.quantile(some, torch.tensor(PERCENTILES, dtype=torch.float64)).tolist()
    return low, high if high > low else low + 1.0
