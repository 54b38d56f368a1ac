"""What a critic sees of a level: its channels, standardised, and local descriptors of them, each a volume of its own.

Descriptors are computed once a level on the voxel grid and interpolated like intensities, so that they have a gradient by the pose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import scipy

from medmi.registration.levels import RANGE_VOXELS, Array, Volume

SMOOTHING_VOXELS = 1.5
# Share of an image's deviation under which local differences count as noise.
LEAST_CONTRAST, TINY = 0.1, 1e-30


def _intensity(channel: Array) -> Array:
    return channel


def _smoothed(channel: Array) -> Array:
    return scipy.ndimage.gaussian_filter(channel, _width(channel), mode="nearest")


def _gradient(channel: Array) -> Array:
    slopes = [
        scipy.ndimage.gaussian_filter1d(_smoothed(channel), 1.0, axis, order=1, mode="nearest")
        for axis, size in enumerate(channel.shape)
        if size > 1
    ]
    return np.sqrt(np.sum(np.square(slopes), 0))


def _deviation(channel: Array) -> Array:
    spread = _smoothed(np.square(channel)) - np.square(_smoothed(channel))
    return np.sqrt(np.maximum(spread, 0))


def _contrast(channel: Array) -> Array:
    return (channel - _smoothed(channel)) / (_deviation(channel) + LEAST_CONTRAST * channel.std() + TINY)


def _width(channel: Array) -> list[float]:
    """A flat axis is not smoothed."""
    return [SMOOTHING_VOXELS if size > 1 else 0.0 for size in channel.shape]


DESCRIPTORS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "intensity": _intensity,
        "smoothed": _smoothed,
        "gradient": _gradient,
        "deviation": _deviation,
        "contrast": _contrast,
    }
)
"""Of one channel ``(X, Y, Z)``: its values; their Gaussian means (1.5 voxels wide); the steepness of those means; the standard deviation
of values within that width; and values less their mean over that deviation, which a slowly varying gain leaves as they are."""


def critic_volume(volume: Volume, names: tuple[str, ...]) -> Volume:
    """The volume with the named descriptors of every channel as channels ``(C * names, X, Y, Z)``, each of mean 0 and deviation 1.

    Intensities are first cut to their robust range, so that no metal implant or hot voxel sets the scale.
    """
    described = [
        _standardised(DESCRIPTORS[name](np.clip(channel, low, high)), volume.mask)
        for name in names
        for channel, low, high in zip(volume.voxels, volume.low, volume.high)
    ]
    voxels = np.ascontiguousarray(described, np.float32)
    rows = voxels.reshape(len(voxels), -1)
    return replace(volume, voxels=voxels, low=rows.min(1), high=rows.max(1))


def _standardised(values: Array, mask: Array) -> Array:
    seen = values.ravel() if not mask.size else values[mask > 0]
    seen = seen[:: max(1, len(seen) // RANGE_VOXELS)].astype(np.float64)
    spread = seen.std()
    return (values - seen.mean()) / (spread if spread > 0 else 1.0)
