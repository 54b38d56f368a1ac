"""The neural term on real images: brain templates beside ``mi``, landmarks of two stains, and a colour picture under a known homography."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares

from medmi import Grid, register
from medmi.io import read_image
from medmi.registration.result import RegistrationResult
from tests.oracles.misalignment import foreground_points, mapped, mean_error, read, turned

Points = np.ndarray
STAINS = "Rat-Kidney_HE", "Rat-Kidney_PanCytokeratin"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spm12_avg152T2", "spm12_avg152PD"])
def test_templates_come_out_as_by_mi_whatever_the_seed(data, name):
    folder = data / "templates-mni"
    fixed = read(folder / "spm12_avg152T1.nii.gz")
    moving, motion = turned(read(folder / f"{name}.nii.gz"), 20, 20, 0)
    points, ends = foreground_points(fixed), []
    for seed in range(3):
        by_mi, by_critic = (
            register(fixed, moving, similarity=s, seed=seed).transform.to_sitk() for s in ("mi", "mine")
        )
        assert mean_error(by_critic, motion, points) < mean_error(by_mi, motion, points) + 0.3
        ends.append(mapped(by_critic, points))
    apart = [np.linalg.norm(ends[a] - ends[b], axis=1).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert max(apart) < 0.4, apart


def projected(matrix: np.ndarray, points: Points) -> Points:
    ends = np.append(points, np.ones((len(points), 1)), 1) @ matrix.T
    return ends[:, :2] / ends[:, 2:]


def in_pixels(result: RegistrationResult, fixed: MetaTensor, moving: MetaTensor, pixels: Points) -> Points:
    """Where the found transform sends pixels ``(n, 2)``."""
    world = result.transform.points(Grid.of(fixed).index_to_world(torch.from_numpy(pixels)))
    return Grid.of(moving).world_to_index(world).numpy()


def landmarks(path: pathlib.Path) -> Points:
    with path.open(encoding="utf-8") as file:
        return np.array([[float(row["X"]), float(row["Y"])] for row in csv.DictReader(file)])


def least_squares_error(fixed: Points, moving: Points) -> float:
    """Mean distance that the best homography in the sense of least squares leaves."""

    def residual(entries: np.ndarray) -> np.ndarray:
        matrix = np.append(entries, 1).reshape(3, 3) * np.array([[1], [1], [1e-3]]) + np.diag([0, 0, 1 - 1e-3])
        return (projected(matrix, fixed) - moving).ravel()

    fit = least_squares(residual, np.eye(3).ravel()[:8], x_scale="jac")
    return float(np.linalg.norm(fit.fun.reshape(-1, 2), axis=1).mean())


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_landmarks_of_two_stains_meet_as_well_as_a_homography_can(data, seed):
    folder = data / "2d-colour-landmarks"
    fixed, moving = (read_image(folder / f"{name}.jpg") for name in STAINS)
    pixels = [landmarks(folder / f"{name}.csv")[:69] for name in STAINS]
    best = least_squares_error(*pixels)
    assert 4 < best < 4.5
    result = register(fixed, moving, transform="homography", similarity="mine", initial="identity", seed=seed)
    found = in_pixels(result, fixed, moving, pixels[0])
    assert np.linalg.norm(found - pixels[1], axis=1).mean() < 1.1 * best


def corners_and_homography(shape: tuple[int, ...], seed: int) -> tuple[Points, np.ndarray]:
    """Corner pixels of an image and the homography that moves each of them by up to 30 pixels along each axis."""
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (np.array(shape) - 1.0)
    ends = corners + np.random.default_rng(seed).uniform(-30, 30, (4, 2))
    rows = []
    for (x, y), (u, v) in zip(corners, ends):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    return corners, np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)


def recoloured(colour: np.ndarray) -> np.ndarray:
    """Another stain's colours, each from several of the old ones, none monotone in them."""
    red, green, blue = colour / 255
    return 255 * np.stack([np.cos(2.5 * green) ** 2, (red + 1 - blue) / 2, np.sqrt(red * green)])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_known_homography_of_a_colour_picture_is_found_to_half_a_pixel_at_the_corners(data, seed):
    fixed = read_image(data / "2d-colour-landmarks" / f"{STAINS[0]}.jpg")
    shape = tuple(fixed.shape[1:])
    corners, matrix = corners_and_homography(shape, seed)
    pixels = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 2)
    origin = projected(np.linalg.inv(matrix), pixels).T
    warped = np.stack([map_coordinates(c, origin, order=1, mode="nearest") for c in fixed.numpy()])
    voxels = torch.from_numpy(recoloured(warped).reshape(fixed.shape).astype(np.float32))
    moving = MetaTensor(voxels, affine=fixed.affine)
    result = register(fixed, moving, transform="homography", similarity="mine", initial="identity", seed=seed)
    error = np.linalg.norm(in_pixels(result, fixed, moving, corners) - projected(matrix, corners), axis=1)
    assert error.max() < 0.5, error
