"""FSL, AFNI and FreeSurfer matrices against nitransforms and their definitions, on grids of either handedness."""

from __future__ import annotations

import pathlib

import nibabel
import nitransforms
import numpy as np
import pytest
import torch

from medmi.grid import Grid
from medmi.io import read_transform, write_transform
from medmi.spatial import DisplacementFieldTransform, LinearTransform, SpatialTransform
from medmi.validation import InputError
from tests.io.making import SHAPE, oblique

FIXED_SHAPE = (17, 12, 9)


def grids(flip_fixed: bool = False, flip_moving: bool = False) -> dict[str, Grid]:
    fixed = torch.diag(torch.tensor([1.5, 2.0, 2.5, 1.0], dtype=torch.float64))
    fixed[:3, 3] = torch.tensor([-20.0, 11.0, 4.0])
    moving = oblique()
    for matrix, flipped in ((fixed, flip_fixed), (moving, flip_moving)):
        if (float(torch.linalg.det(matrix)) < 0) != flipped:
            matrix[:, 0] *= -1
    return {"fixed_grid": Grid(FIXED_SHAPE, fixed), "moving_grid": Grid(SHAPE, moving)}


def matrix_of(transform: SpatialTransform) -> np.ndarray:
    assert isinstance(transform, LinearTransform)
    return transform.matrix.numpy()


def affine() -> LinearTransform:
    parameters = 0.1 * torch.randn(12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return LinearTransform.from_parameters(parameters * torch.tensor([60.0] * 3 + [1.0] * 9), "affine")


def nibabel_image(grid: Grid) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine.numpy())


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("suffix", [".fsl", ".lta", ".1D", ".afni"])
def test_there_and_back(tmp_path, suffix, flips):
    known = grids(*flips) if suffix in (".fsl", ".lta") else {}
    write_transform(affine(), tmp_path / f"t{suffix}", **known)
    assert np.abs(matrix_of(read_transform(tmp_path / f"t{suffix}", **known)) - matrix_of(affine())).max() < 1e-9


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("suffix", "name"), [(".fsl", "fsl"), (".lta", "fs")])
def test_nitransforms_reads_the_same(tmp_path, suffix, name, flips):
    known = grids(*flips)
    write_transform(affine(), tmp_path / f"t{suffix}", **known)
    theirs = nitransforms.linear.load(
        tmp_path / f"t{suffix}",
        fmt=name,
        reference=nibabel_image(known["fixed_grid"]),
        moving=nibabel_image(known["moving_grid"]),
    )
    assert np.abs(theirs.matrix - matrix_of(affine())).max() < 1e-4


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_fsl_written_by_nitransforms(tmp_path, flips):
    known = grids(*flips)
    transform = nitransforms.linear.Affine(matrix_of(affine()), reference=nibabel_image(known["fixed_grid"]))
    transform.to_filename(tmp_path / "t.mat", fmt="fsl", moving=nibabel_image(known["moving_grid"]))
    assert np.abs(matrix_of(read_transform(tmp_path / "t.mat", **known)) - matrix_of(affine())).max() < 1e-4


def test_fsl_by_its_definition(tmp_path):
    """A moving point's FLIRT millimetres, carried by the file's matrix, are those of its fixed point."""
    known = grids(False, True)
    write_transform(affine(), tmp_path / "t.fsl", **known)
    file = np.loadtxt(tmp_path / "t.fsl")

    def millimetres(grid: Grid, world: np.ndarray) -> np.ndarray:
        index = np.linalg.inv(grid.affine.numpy()) @ np.append(world, 1)
        if np.linalg.det(grid.affine.numpy()) > 0:
            index[0] = grid.shape[0] - 1 - index[0]
        return np.append(index[:3] * np.linalg.norm(grid.affine.numpy()[:3, :3], axis=0), 1)

    for x in np.random.default_rng(0).normal(scale=30, size=(10, 3)):
        y = (matrix_of(affine()) @ np.append(x, 1))[:3]
        moved = file @ millimetres(known["moving_grid"], y)
        assert np.abs(moved - millimetres(known["fixed_grid"], x)).max() < 1e-9


def test_afni_is_lps(tmp_path):
    write_transform(affine(), tmp_path / "t.1D")
    numbers = np.loadtxt(tmp_path / "t.1D").reshape(3, 4)
    flip = np.diag([-1, -1, 1, 1])
    assert np.abs(numbers - (flip @ matrix_of(affine()) @ flip)[:3]).max() < 1e-12


def test_lta_of_voxels(tmp_path):
    """Type 0 with its geometry says the same as type 1."""
    known = grids()
    write_transform(affine(), tmp_path / "t.lta", **known)
    lines = (tmp_path / "t.lta").read_text().splitlines()
    world = np.linalg.inv(matrix_of(affine()))
    voxels = known["fixed_grid"].inverse.numpy() @ world @ known["moving_grid"].affine.numpy()
    start = lines.index("1 4 4") + 1
    lines[start : start + 4] = [" ".join(f"{v:.17g}" for v in row) for row in voxels]
    lines[lines.index("type      = 1")] = "type      = 0"
    (tmp_path / "v.lta").write_text("\n".join(lines) + "\n")
    assert np.abs(matrix_of(read_transform(tmp_path / "v.lta")) - matrix_of(affine())).max() < 1e-9


def test_one_affine_in_every_notation(data):
    folder = data / "transform-files"
    truth = matrix_of(read_transform(folder / "affine-RAS.itk.tfm"))
    assert np.abs(matrix_of(read_transform(folder / "affine-RAS.afni")) - truth).max() < 1e-6
    for name in ("RAS.fs", "LAS.fs", "LPS.fs", "oblique.fs", "RAS.fs.v2v"):
        # these files hold the map from fixed to moving itself: in FreeSurfer's sense they mean its inverse
        assert np.abs(np.linalg.inv(matrix_of(read_transform(folder / f"affine-{name}.lta"))) - truth).max() < 1e-4


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "oblique"])
def test_real_fsl_files(data, orientation):
    """The grid is the one the FreeSurfer file of the same name describes."""
    folder = data / "transform-files"
    text = (folder / f"affine-{orientation}.fs.lta").read_text().splitlines()
    rows = {
        line.split("=")[0].strip(): np.array(line.split("=")[1].split(), float)
        for line in text
        if line.startswith(("volume =", "voxelsize", "xras", "yras", "zras", "cras"))
    }
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([rows["xras"], rows["yras"], rows["zras"]], 1) * rows["voxelsize"]
    matrix[:3, 3] = rows["cras"] - matrix[:3, :3] @ (rows["volume"] / 2)
    grid = Grid(rows["volume"].astype(int).tolist(), torch.from_numpy(matrix))
    ours = matrix_of(read_transform(folder / f"affine-{orientation}.fsl", fixed_grid=grid, moving_grid=grid))
    truth = matrix_of(read_transform(folder / f"affine-{orientation}.itk.tfm"))
    assert np.abs(ours - truth).max() < 2e-3  # the file has eight decimals, lever arms are some 100 mm


def refusal(path: pathlib.Path, **known: Grid) -> str:
    with pytest.raises(InputError) as caught:
        read_transform(path, **known)
    return str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".fsl", "1 0 0 0\n0 1 0 0\n0 0 1 0\n", "12 numbers where 16"),
        (".fsl", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 2\n", "last row"),
        (".fsl", "1 0 0 0\n0 nan 0 0\n0 0 1 0\n0 0 0 1\n", "not finite"),
        (".mat", "1 0 0 0\n0 1 0 0\n1 1 0 0\n0 0 0 1\n", "singular"),
        (".1D", "1 0 0 0 0 1 0 0 0 0 1\n", "11 numbers where 12"),
        (".lta", "type = 1\nnxforms = 2\n1 4 4\n", "one is asked"),
        (".lta", "type = 7\nnxforms = 1\n1 4 4\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "type 7"),
        (".lta", "type = 0\nnxforms = 1\n1 4 4\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "'src volume info'"),
    ],
)
def test_files_that_do_not_do(tmp_path, suffix, text, message):
    (tmp_path / f"t{suffix}").write_text(text)
    assert message in refusal(tmp_path / f"t{suffix}", **(grids() if suffix != ".1D" else {}))


def test_grids_that_are_missing_or_do_not_do(tmp_path):
    known = grids()
    write_transform(affine(), tmp_path / "t.fsl", **known)
    assert "needs the grids of both images" in refusal(tmp_path / "t.fsl")
    flat = Grid((4, 5), torch.eye(3))
    assert "is 3D" in refusal(tmp_path / "t.fsl", fixed_grid=flat, moving_grid=flat)
    for suffix in (".fsl", ".lta"):
        with pytest.raises(InputError, match="needs the grids of both images"):
            write_transform(affine(), tmp_path / f"u{suffix}", fixed_grid=known["fixed_grid"])
    write_transform(affine(), tmp_path / "t.1D", fixed_grid=known["fixed_grid"])
    assert "moving_grid: is oblique" in refusal(tmp_path / "t.1D", **known)


@pytest.mark.parametrize("suffix", [".fsl", ".lta", ".1D"])
def test_only_linear_3d_transforms_are_matrices(tmp_path, suffix):
    grid = Grid(SHAPE, oblique())
    for transform in (
        DisplacementFieldTransform(grid, torch.zeros(*SHAPE, 3)),
        LinearTransform(torch.eye(3, dtype=torch.float64)),
    ):
        with pytest.raises(InputError, match="3D linear transforms only"):
            write_transform(transform, tmp_path / f"t{suffix}", **(grids() if suffix != ".1D" else {}))
    assert list(tmp_path.iterdir()) == []
