"""Files with bytes changed, cut or put in: an image, a transform or an InputError of one line, never anything else."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import torch
from pydicom.uid import RLELossless

from medmi.grid import Grid
from medmi.io import read_image, read_transform, write_image, write_transform
from medmi.spatial import DisplacementFieldTransform, LinearTransform
from medmi.validation import InputError
from tests.io.making import NORMAL, SHAPE, enhanced_dataset, image, oblique, series_datasets, volume_pixels

LARGEST_INTEGERS = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"9999", b"\x7f\xff\xff\xff")
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


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, the end cut off, bytes put in, or a size made absurd; the header more often than the rest."""
    raw = bytearray(whole)
    head = min(len(raw), chance.choice([64, 400, 2000, len(raw)]))
    kind, place = chance.random(), chance.randrange(head)
    if kind < 0.6:
        for _ in range(chance.choice([1, 1, 2, 4, 16])):
            raw[chance.randrange(head)] = chance.choice([0, 1, 255, 127, 128, chance.randrange(256)])
    elif kind < 0.75:
        del raw[chance.randrange(len(raw)) :]
    elif kind < 0.9:
        raw[place : place + chance.choice([1, 4, 8])] = chance.randbytes(chance.choice([0, 1, 4, 8, 100]))
    else:
        raw[place : place + 4] = chance.choice(LARGEST_INTEGERS)
    return bytes(raw)


def attack(files: list[pathlib.Path], read: Callable[[pathlib.Path], object], cases: int) -> int:
    """Read that many damaged files; how many were refused."""
    chance = random.Random(0)
    sound = [(file.suffixes, file.read_bytes()) for file in files]
    refused = 0
    for k in range(cases):
        suffixes, whole = sound[k % len(sound)]
        damaged = files[0].parent / f"damaged{''.join(suffixes)}"
        damaged.write_bytes(mutated(whole, chance))
        try:
            read(damaged)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    return refused


@pytest.mark.parametrize("cases", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_images(tmp_path, cases):
    assert attack(images(tmp_path), read_image, cases) > cases / 3


@pytest.mark.parametrize("cases", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_transforms(tmp_path, cases):
    assert attack(transforms(tmp_path), lambda file: read_transform(file, GRID, GRID), cases) > cases / 3
