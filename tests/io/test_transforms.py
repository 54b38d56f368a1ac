"""ITK's transform files and displacement fields: SimpleITK reads what medmi writes, and the other way round."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medmi.frames import flip_points
from medmi.grid import Grid
from medmi.io import read_transform, write_transform
from medmi.spatial import DisplacementFieldTransform, LinearTransform, SpatialTransform, chain
from medmi.validation import InputError
from tests.io.making import SHAPE, oblique

FAMILIES = {"translation": (2, 3), "rigid": (3, 6), "similarity": (4, 7), "affine": (6, 12)}


def linear(family: str, spatial_dims: int) -> LinearTransform:
    count = FAMILIES[family][spatial_dims - 2]
    parameters = 0.1 * torch.randn(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    parameters[:spatial_dims] *= 50
    return LinearTransform.from_parameters(parameters, family, Grid(SHAPE[:spatial_dims], oblique(spatial_dims)).centre)


def field(spatial_dims: int) -> DisplacementFieldTransform:
    grid = Grid(SHAPE[:spatial_dims], oblique(spatial_dims))
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn((*grid.shape, spatial_dims), generator=generator, dtype=torch.float64)
    return DisplacementFieldTransform(grid, vectors)


def inner_points(spatial_dims: int) -> torch.Tensor:
    grid = Grid(SHAPE[:spatial_dims], oblique(spatial_dims))
    unit = torch.rand((50, spatial_dims), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return grid.index_to_world(unit * (torch.tensor(grid.shape) - 1))


def by_simpleitk(transform: sitk.Transform, x: torch.Tensor) -> torch.Tensor:
    mapped = [transform.TransformPoint(p) for p in flip_points(x).tolist()]
    return flip_points(torch.tensor(mapped, dtype=torch.float64))


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-9) -> bool:
    return float((a - b).abs().max()) < tolerance


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5", ".hdf5", ".mat"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_linear(tmp_path, family, spatial_dims, suffix):
    transform, x = linear(family, spatial_dims), inner_points(spatial_dims)
    write_transform(transform, tmp_path / f"t{suffix}")
    back = read_transform(tmp_path / f"t{suffix}")
    assert isinstance(back, LinearTransform) and back.family == family
    assert close(back.points(x), transform.points(x))
    assert close(by_simpleitk(sitk.ReadTransform(str(tmp_path / f"t{suffix}")), x), transform.points(x))


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".nii", ".nii.gz"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_fields(tmp_path, spatial_dims, suffix):
    transform, x = field(spatial_dims), inner_points(spatial_dims)
    write_transform(transform, tmp_path / f"t{suffix}")
    back = read_transform(tmp_path / f"t{suffix}")
    assert isinstance(back, DisplacementFieldTransform)
    assert close(back.points(x), transform.points(x), 1e-5)  # NIfTI holds its affine in float32


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_simpleitk_reads_a_field_written_as_nifti(tmp_path, spatial_dims):
    transform, x = field(spatial_dims), inner_points(spatial_dims)
    write_transform(transform, tmp_path / "t.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "t.nii.gz"), sitk.sitkVectorFloat64)
    assert close(by_simpleitk(sitk.DisplacementFieldTransform(image), x), transform.points(x), 1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_field_written_by_simpleitk(tmp_path, spatial_dims):
    transform, x = field(spatial_dims), inner_points(spatial_dims)
    sitk.WriteImage(transform.to_sitk().GetDisplacementField(), str(tmp_path / "t.nii.gz"))
    assert close(read_transform(tmp_path / "t.nii.gz").points(x), transform.points(x), 1e-5)


def test_intent_1006_means_ras(tmp_path):
    transform = field(3)
    vectors = transform.displacement.numpy()[:, :, :, None]
    nifti = nibabel.Nifti1Image(vectors, oblique().numpy())
    nifti.header["intent_code"] = 1006
    nibabel.save(nifti, tmp_path / "t.nii")
    x = inner_points(3)
    assert close(read_transform(tmp_path / "t.nii").points(x), transform.points(x), 1e-5)


def test_any_transform_is_sampled_on_the_fixed_grid(tmp_path):
    grid = Grid(SHAPE, oblique())
    both = chain([linear("affine", 3), field(3)])
    write_transform(both, tmp_path / "t.nii.gz", fixed_grid=grid)
    back = read_transform(tmp_path / "t.nii.gz")
    assert close(back.points(grid.points()), both.points(grid.points()), 1e-4)
    with pytest.raises(InputError, match="fixed_grid"):
        write_transform(both, tmp_path / "u.nii.gz")
    assert not (tmp_path / "u.nii.gz").exists()


def test_homography_is_a_field(tmp_path):
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[2, :2] = torch.tensor([1e-4, -2e-4])
    transform, grid = LinearTransform(matrix, "homography"), Grid(SHAPE[:2], oblique(2))
    write_transform(transform, tmp_path / "t.h5", fixed_grid=grid)
    x = grid.points()
    assert close(read_transform(tmp_path / "t.h5").points(x), transform.points(x))
    with pytest.raises(InputError, match="homography"):
        write_transform(transform, tmp_path / "u.h5")


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_composites_keep_their_order(tmp_path, suffix):
    both, x = chain([linear("affine", 3), field(3), linear("rigid", 3)]), inner_points(3)
    write_transform(both, tmp_path / f"t{suffix}")
    for other in (read_transform(tmp_path / f"t{suffix}").points(x),):
        assert close(other, both.points(x), 1e-6)
    assert close(by_simpleitk(sitk.ReadTransform(str(tmp_path / f"t{suffix}")), x), both.points(x), 1e-6)


def test_bsplines_of_simpleitk(tmp_path):
    fixed = sitk.Image([30, 30, 30], sitk.sitkFloat32)
    spline = sitk.BSplineTransformInitializer(fixed, [4, 4, 4])
    spline.SetParameters(np.random.default_rng(0).normal(size=len(spline.GetParameters())).tolist())
    sitk.WriteTransform(spline, str(tmp_path / "t.h5"))
    x = torch.rand((20, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * -20
    assert close(read_transform(tmp_path / "t.h5").points(x), by_simpleitk(spline, x))
    spline.SetParameters([float("nan")] * len(spline.GetParameters()))
    sitk.WriteTransform(spline, str(tmp_path / "t.h5"))
    with pytest.raises(InputError, match="not finite"):
        read_transform(tmp_path / "t.h5")


def test_real_files(data):
    folder = data / "transform-files"
    matrices = [read_transform(folder / f"affine-{o}.itk.tfm") for o in ("RAS", "LPS", "oblique")]
    for transform in matrices:
        assert isinstance(transform, LinearTransform)
        assert torch.equal(transform.matrix, matrices[0].matrix)
    ants, x = folder / "affine-antsComposite.h5", inner_points(3)
    assert close(read_transform(ants).points(x), by_simpleitk(sitk.ReadTransform(str(ants)), x))
    for name in ("itktflist.tfm", "hmc-itk.tfm"):
        with pytest.raises(InputError, match=r"a list of [89] transforms"):
            read_transform(folder / name)


def refusal(path, **grids: Grid) -> str:
    with pytest.raises(InputError) as caught:
        read_transform(path, **grids)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5", ".mat", ".nii", ".nii.gz", ".fsl", ".lta", ".1D"])
@pytest.mark.parametrize("contents", [b"", b"no transform\n" * 30, bytes(range(256)) * 4, b"\x89HDF\r\n\x1a\n" * 50])
def test_no_transform(tmp_path, suffix, contents):
    file = tmp_path / f"t{suffix}"
    file.write_bytes(contents)
    assert str(file) in refusal(file)


def test_missing_and_unknown(tmp_path):
    assert "no such file" in refusal(tmp_path / "t.tfm")
    (tmp_path / "t.tfn").write_text("x")
    assert "did you mean '.tfm'? Known: .tfm, .txt" in refusal(tmp_path / "t.tfn")
    with pytest.raises(InputError, match=r"cannot be written.* Known: \.tfm"):
        write_transform(linear("rigid", 3), tmp_path / "t.xyz")


def test_an_image_is_no_field(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4)), tmp_path / "t.nii")
    assert "is no displacement field" in refusal(tmp_path / "t.nii")


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".mat", ".nii", ".nii.gz", ".lta", ".1D", ".fsl"])
def test_cut_short_anywhere(tmp_path, suffix):
    grids = {"fixed_grid": Grid(SHAPE, torch.eye(4)), "moving_grid": Grid(SHAPE, torch.eye(4))}
    transform: SpatialTransform = field(3) if ".nii" in suffix else linear("affine", 3)
    write_transform(transform, tmp_path / f"t{suffix}", **({} if ".nii" in suffix else grids))
    whole = (tmp_path / f"t{suffix}").read_bytes()
    for end in np.linspace(0, len(whole) - 2, 12 if suffix == ".h5" else 40).astype(int):
        (tmp_path / f"u{suffix}").write_bytes(whole[:end])
        refusal(tmp_path / f"u{suffix}", **grids)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_values_that_are_not_finite(tmp_path, value):
    text = "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
    text += f"Parameters: 1 0 0 0 1 0 0 0 1 {value} 0 0\nFixedParameters: 0 0 0\n"
    (tmp_path / "t.tfm").write_text(text)
    assert str(tmp_path / "t.tfm") in refusal(tmp_path / "t.tfm")


def test_singular(tmp_path):
    text = "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
    (tmp_path / "t.tfm").write_text(text + "Parameters: 1 0 0 0 1 0 1 1 0 0 0 0\nFixedParameters: 0 0 0\n")
    assert str(tmp_path / "t.tfm") in refusal(tmp_path / "t.tfm")


def test_unwritable(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_transform(linear("rigid", 3), tmp_path / "missing" / "t.tfm")
    assert list(tmp_path.iterdir()) == []


def test_hdf5_that_crashes_the_library_is_refused(tmp_path, monkeypatch):
    write_transform(linear("rigid", 3), tmp_path / "t.h5")
    monkeypatch.setattr("medmi.io.itk_transforms.REHEARSAL", "import os; os.abort()")
    assert "HDF5 crashes over it" in refusal(tmp_path / "t.h5")
    monkeypatch.setattr("medmi.io.itk_transforms.REHEARSAL", "while True: pass")
    monkeypatch.setattr("medmi.io.itk_transforms.REHEARSAL_SECONDS", 0.2)
    assert "does not end" in refusal(tmp_path / "t.h5")


def test_hdf5_with_bytes_changed(tmp_path):
    write_transform(linear("rigid", 3), tmp_path / "t.h5")
    whole = (tmp_path / "t.h5").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "u.h5").write_bytes(damaged)
        try:
            read_transform(tmp_path / "u.h5")
        except InputError as error:
            assert "\n" not in str(error)
