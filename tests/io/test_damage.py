"""Files with bytes changed, cut or put in: an image, a transform or an InputError of one line, never anything else."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import torch
from pydicom.uid import RLELossless

from medmi.grid import Grid
from medmi.io import read_image, read_transform, write_image, write_transform
from medmi.io.points import read_points
from medmi.spatial import DisplacementFieldTransform, LinearTransform
from tests.io.making import NORMAL, SHAPE, enhanced_dataset, image, oblique, series_datasets, volume_pixels
from tests.oracles.damage import TEXTS, attack

GRID = Grid((9, 8, 7), torch.eye(4))


def images(folder: pathlib.Path) -> list[pathlib.Path]:
    """One sound file of every image format."""
    for suffix in (".nii", ".nii.gz", ".mha", ".nrrd"):
        write_image(image(), folder / f"a{suffix}")
    colours = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    for suffix in (".png", ".jpg", ".tif"):
        PIL.Image.fromarray(colours).save(folder / f"a{suffix}")
    sitk.WriteImage(sitk.GetImageFromArray(colours[..., 0]), str(folder / "raw.mha"))
    plain, packed = series_datasets(1)[0], series_datasets(1)[0]
    packed.compress(RLELossless)
    places = [np.array([12.0, -33.0, 57.0]) + 2.5 * k * NORMAL for k in range(6)]
    for name, dataset in (("p", plain), ("r", packed), ("e", enhanced_dataset(places, volume_pixels()))):
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


def transforms(folder: pathlib.Path) -> list[pathlib.Path]:
    """One sound file of every transform format but HDF5, which another process reads first."""
    linear = LinearTransform.from_parameters(0.1 * torch.arange(12, dtype=torch.float64), "affine")
    for suffix in (".tfm", ".mat", ".lta", ".fsl"):
        write_transform(linear, folder / f"t{suffix}", fixed_grid=GRID, moving_grid=GRID)
    write_transform(linear, folder / "t.1D")
    write_transform(DisplacementFieldTransform(Grid(SHAPE, oblique()), torch.ones(*SHAPE, 3)), folder / "t.nii.gz")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("cases", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_images(tmp_path, cases):
    assert attack(images(tmp_path), read_image, cases) > cases / 3


@pytest.mark.parametrize("cases", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_transforms(tmp_path, cases):
    assert attack(transforms(tmp_path), lambda file: read_transform(file, GRID, GRID), cases) > cases / 3


@pytest.mark.slow
def test_hdf5(tmp_path):
    linear = LinearTransform.from_parameters(0.1 * torch.arange(12, dtype=torch.float64), "affine")
    write_transform(linear, tmp_path / "t.h5")
    assert attack([tmp_path / "t.h5"], read_transform, 60) > 5


def landmarks(folder: pathlib.Path) -> list[pathlib.Path]:
    """One sound file of every landmark format."""
    points = [(f"p{k}", 1.5 * k, -2.0 - k, 0.25 * k) for k in range(8)]
    rows = [",".join(map(str, point)) for point in points]
    (folder / "a.csv").write_text("\n".join(["label,x,y,z", *rows]) + "\n")
    slicer = [f"vtk_{k},{x},{y},{z},0,0,0,1,1,1,0,{name},," for k, (name, x, y, z) in enumerate(points)]
    (folder / "b.fcsv").write_text(
        "\n".join(["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", *slicer])
    )
    markups = [{"label": name, "position": place} for name, *place in points]
    content = {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": markups}]}
    (folder / "c.mrk.json").write_text(json.dumps(content))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("cases", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_landmarks(tmp_path, cases):
    assert attack(landmarks(tmp_path), read_points, cases, TEXTS) > cases / 3
