"""``medmi demo``: two volumes of a phantom with a known misalignment, registered, measured and drawn."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import torch

from medmi.apps.registration import Order, register_images
from medmi.grid import Grid
from medmi.image import AnyImage
from medmi.simulation.phantom import demo_pair
from medmi.spatial import LinearTransform


def run_demo(folder: pathlib.Path, seed: int, threads: int, progress: Callable[[float], None] | None) -> dict[str, Any]:
    """Make the pair, register it, fill ``folder`` as ``medmi register`` does; the summary with both errors in mm."""
    fixed, moving, truth = demo_pair(seed)
    tell = None if progress is None else (lambda share: progress(0.3 + 0.7 * share))
    if progress is not None:
        progress(0.3)
    summary = register_images(fixed, moving, folder, Order(seed=seed, threads=threads), tell)
    points = head_points(fixed)
    true_points = LinearTransform(truth, "rigid").points(points)
    found = LinearTransform(torch.tensor(summary["matrix_ras"], dtype=torch.float64)).points(points)
    return summary | {
        "error_before_mm": float((points - true_points).norm(dim=-1).mean()),
        "error_after_mm": float((found - true_points).norm(dim=-1).mean()),
    }


def head_points(image: AnyImage, every: int = 8) -> torch.Tensor:
    """World points of every 8th voxel along each axis that is brighter than the image's mean."""
    grid = Grid.of(image)
    axes = [torch.arange(0, size, every) for size in grid.shape]
    index = torch.cartesian_prod(*axes)
    values = image.as_tensor()[0][tuple(index.T)]
    return grid.index_to_world(index[values > image.as_tensor().mean()].double())
