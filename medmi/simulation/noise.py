"""What scanners do to a clean image: Rician and Poisson noise, point spread and speckle.

Every function takes a volume ``(*spatial)``, the voxel spacing in mm along each axis and a ``torch.Generator``; all
are deterministic by the generator's seed at any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from medmi.validation import InputError

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
RAYLEIGH_MEAN = math.sqrt(math.pi / 2)
PET_RESOLUTION_MM = 4.5
SPECKLE_CELL_MM = 2.0


def rician(clean: torch.Tensor, spacing: Sequence[float], noise: float, generator: torch.Generator) -> torch.Tensor:
    """Magnitude of a complex MR signal whose two channels each carry Gaussian noise, ``sigma = noise * max(clean)``.

    Source: Gudbjartsson & Patz 1995, Eq. 1.
    """
    if noise == 0:
        return clean
    sigma = noise * float(clean.max())
    real = torch.randn(clean.shape, generator=generator).mul_(sigma).add_(clean)
    imaginary = torch.randn(clean.shape, generator=generator).mul_(sigma)
    return torch.hypot(real, imaginary)


def poisson(clean: torch.Tensor, spacing: Sequence[float], noise: float, generator: torch.Generator) -> torch.Tensor:
    """Point spread, counting noise of relative deviation ``noise`` at the brightest voxel, and the spread again."""
    sigmas = [PET_RESOLUTION_MM / FWHM_PER_SIGMA / s for s in spacing]
    spread = gaussian_blur(clean, sigmas)
    peak = float(spread.max())
    if noise == 0 or peak <= 0:
        return spread
    counts = 1 / (noise * noise * peak)
    return gaussian_blur(torch.poisson(spread.clamp_min(0) * counts, generator=generator) / counts, sigmas)


def speckled(clean: torch.Tensor, spacing: Sequence[float], noise: float, generator: torch.Generator) -> torch.Tensor:
    """The envelope of scattered sound: amplitude times Rayleigh speckle of mean 1, mixed in by the share ``noise``."""
    if noise > 1:
        raise InputError(f"speckle: noise is {noise}; a share from 0 to 1 is asked")
    sigmas = [SPECKLE_CELL_MM / FWHM_PER_SIGMA / s for s in spacing]
    return clean * (1 - noise + noise * rayleigh(clean.shape, sigmas, generator) / RAYLEIGH_MEAN)


def rayleigh(shape: Sequence[int], sigmas: Sequence[float], generator: torch.Generator) -> torch.Tensor:
    """Fully developed speckle: the modulus of circular complex noise smoothed over the resolution cell.

    Each voxel is Rayleigh distributed with scale 1: mean ``sqrt(pi / 2)``, mean over deviation 1.91. Neighbours are
    correlated over ``sigmas`` voxels along each axis. Source: Burckhardt 1978, Eq. 9.
    """
    real, imaginary = (unit_noise(shape, sigmas, generator) for _ in range(2))
    return torch.hypot(real, imaginary)


def unit_noise(shape: Sequence[int], sigmas: Sequence[float], generator: torch.Generator) -> torch.Tensor:
    """Stationary noise of mean 0 and deviation 1, smoothed by a Gaussian of ``sigmas`` voxels that wraps around."""
    noise = torch.randn(tuple(shape), generator=generator)
    for axis, sigma in enumerate(sigmas):
        taps = gaussian_taps(sigma)
        noise = convolve(noise, axis, taps / taps.square().sum().sqrt(), wrap=True)
    return noise


def gaussian_blur(volume: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Separable Gaussian smoothing by ``sigmas`` voxels along each axis; the edge values go on outside."""
    for axis, sigma in enumerate(sigmas):
        volume = convolve(volume, axis, gaussian_taps(sigma), wrap=False)
    return volume


def gaussian_taps(sigma: float) -> torch.Tensor:
    """A Gaussian sampled to three deviations, of unit sum; a single 1 where sigma is under a fifth of a voxel."""
    reach = math.ceil(3 * sigma) if sigma >= 0.2 else 0
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (offsets / max(sigma, 0.2)).square())
    return taps / taps.sum()


def convolve(volume: torch.Tensor, axis: int, taps: torch.Tensor, wrap: bool) -> torch.Tensor:
    """Shifted copies added up in a fixed order, so that the bits are the same at any number of threads."""
    size, reach = volume.shape[axis], len(taps) // 2
    if reach == 0:
        return volume * float(taps[0])
    index = torch.arange(-reach, size + reach)
    padded = volume.index_select(axis, index % size if wrap else index.clamp(0, size - 1))
    total = padded.narrow(axis, 0, size) * float(taps[0])
    for shift, tap in enumerate(taps.tolist()[1:], start=1):
        total.add_(padded.narrow(axis, shift, size), alpha=tap)
    return total
