"""``medmi mi`` and ``medmi evaluate``: how much two images tell of one another, how far a transform misses landmarks."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import torch

from medmi.grid import Grid
from medmi.information import BOUNDS, joint_histogram, mutual_information, normalized_mutual_information
from medmi.io import read_image, read_transform
from medmi.io.points import paired, read_points
from medmi.metrics import NeuralEstimation, compute_neural_mutual_information, compute_target_registration_error
from medmi.registration import apply
from medmi.spatial import LinearTransform
from medmi.validation import InputError, choose


def measure_information(a: pathlib.Path, b: pathlib.Path, estimator: str, num_bins: int, seed: int) -> dict[str, Any]:
    """Mutual information of two images in nat; B is resampled on A's grid by their headers where the grids differ.

    ``estimator`` is ``histogram`` or the name of a neural bound.
    """
    choose(estimator, ESTIMATORS, "--estimator")
    first = read_image(a)
    second = read_image(b)
    if first.ndim != second.ndim or len(first) != len(second):
        raise InputError(
            f"mi: shapes (channels, axes) differ: {tuple(first.shape)} and {tuple(second.shape)}; give images of one kind"
        )
    inside = torch.ones(1, *first.shape[1:], dtype=torch.bool)
    if not Grid.of(first).same_as(Grid.of(second)):
        inside = Grid.of(second).contains(Grid.of(first).points()).unsqueeze(0)
        second = apply(second, LinearTransform(torch.eye(first.ndim, dtype=torch.float64), "translation"), first)
    if not bool(inside.any()):
        raise InputError("mi: the images do not overlap in world space; register them first")
    values = ESTIMATORS[estimator](first.as_tensor()[None], second.as_tensor()[None], inside[None], num_bins, seed)
    return {"estimator": estimator, "voxels": int(inside.sum()), **values}


def _histogram(x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor, num_bins: int, seed: int) -> dict[str, Any]:
    table = joint_histogram(x, y, num_bins=num_bins, mask=mask)
    value = mutual_information(table)[0]
    return {
        "mutual_information_nat": float(value.sum()),
        "normalized_mutual_information": float(normalized_mutual_information(table)[0].mean()),
        "num_bins": num_bins,
        "bias_nat": len(value) * (num_bins - 1) ** 2 / (2 * int(mask.sum())),
    }


def _neural(bound: str) -> Callable[..., dict[str, Any]]:
    def estimate(x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor, num_bins: int, seed: int) -> dict[str, Any]:
        settings = NeuralEstimation(bound=bound, seed=seed)
        return {"mutual_information_nat": float(compute_neural_mutual_information(x, y, mask, settings).sum())}

    return estimate


ESTIMATORS: dict[str, Callable[..., dict[str, Any]]] = {"histogram": _histogram} | {
    name: _neural(name) for name in BOUNDS
}


def evaluate(
    transform: pathlib.Path, fixed_points: pathlib.Path, moving_points: pathlib.Path, frame: str
) -> dict[str, Any]:
    """Target registration error in mm of a transform file over landmark pairs, before and after."""
    fixed, moving = paired(read_points(fixed_points, frame), read_points(moving_points, frame))
    found = read_transform(transform)
    if found.spatial_dims != fixed.shape[1]:
        raise InputError(f"evaluate: the transform is {found.spatial_dims}D and the landmarks are {fixed.shape[1]}D")
    before = compute_target_registration_error(fixed[None], moving[None])[0]
    after = compute_target_registration_error(found.points(fixed)[None], moving[None])[0]
    return {"landmarks": len(fixed), "before_mm": _spread(before), "after_mm": _spread(after)}


def _spread(distances: torch.Tensor) -> dict[str, float]:
    return {
        "mean": float(distances.mean()),
        "median": float(distances.median()),
        "p95": float(distances.quantile(0.95)),
        "max": float(distances.max()),
    }
