"""LoadImagePaird and SaveTransformd, and MONAI's SaveImaged on what Registerd makes."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, SaveImaged

from medmi.io import read_transform, write_image
from medmi.transforms import LoadImagePaird, Registerd, SaveTransformd, files
from medmi.transforms.stored import to_tensor
from medmi.validation import InputError
from tests.transforms.making import OPTIONS, itk_affine, motion, pair
from tests.transforms.making import files as make_files
from tests.transforms.test_apply import FIXED, Grid, wave


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("pair"))[0]


def test_pair_is_read_in_one_frame(item):
    read = LoadImagePaird()(item | {"age": 40})
    assert read["age"] == 40
    for key, image in zip(("fixed", "moving"), pair(3)):
        assert isinstance(read[key], MetaTensor)
        assert read[key].shape == image.shape
        torch.testing.assert_close(read[key].affine, image.affine, atol=1e-4, rtol=0)
        torch.testing.assert_close(read[key].meta["original_affine"], read[key].affine)
        assert read[key].meta["spatial_shape"].tolist() == list(image.shape[1:])
        assert set(read[key].meta) == {"affine", "filename_or_obj", "original_affine", "space", "spatial_shape"}


def test_pair_of_unlike_dimension_is_refused(item, tmp_path):
    write_image(pair(2)[0], tmp_path / "flat.mha")
    with pytest.raises(InputError, match="dimensions differ: fixed is 2D"):
        LoadImagePaird()({"fixed": tmp_path / "flat.mha", "moving": item["moving"]})


def test_missing_files_and_keys(item, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        LoadImagePaird()({"fixed": tmp_path / "none.nii", "moving": item["moving"]})
    with pytest.raises(KeyError, match="moving"):
        LoadImagePaird()({"fixed": item["fixed"]})
    assert set(LoadImagePaird(allow_missing_keys=True)({"fixed": item["fixed"]})) == {"fixed"}


@pytest.mark.parametrize("turned", [False, True])
def test_saved_moved_lies_on_the_fixed_file_s_grid(item, tmp_path, turned):
    """Where the saver undoes what the pipeline did to the axes, ``resample=True``."""
    turn = [Orientationd(["fixed", "moving"], "SRP", labels=None)] if turned else []
    save = SaveImaged("moved", output_dir=tmp_path, output_postfix="moved", resample=True, print_log=False)
    done = Compose([LoadImagePaird(), *turn, Registerd(**OPTIONS), SaveTransformd(output_dir=tmp_path), save])(item)
    saved, fixed = nibabel.load(tmp_path / "moving" / "moving_moved.nii.gz"), nibabel.load(item["fixed"])
    assert saved.shape == fixed.shape
    np.testing.assert_allclose(saved.affine, fixed.affine, atol=1e-4)
    moving, reference = sitk.ReadImage(item["moving"]), sitk.ReadImage(item["fixed"])
    transform = sitk.ReadTransform(str(tmp_path / "moving" / "moving_transform.tfm"))
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, reference, transform)).T
    assert np.mean(np.abs(saved.get_fdata() - expected) < 0.1) > 0.99
    written = read_transform(tmp_path / "moving" / "moving_transform.tfm").matrix
    torch.testing.assert_close(done["transform"], written, atol=1e-12, rtol=0)


def test_saved_as_it_is_moved_lies_on_the_pipeline_s_fixed_grid(item, tmp_path):
    turn = Orientationd(["fixed", "moving"], "SRP", labels=None)
    save = SaveImaged("moved", output_dir=tmp_path, resample=False, print_log=False)
    done = Compose([LoadImagePaird(), turn, Registerd(**OPTIONS), save])(item)
    saved = nibabel.load(tmp_path / "moving" / "moving_trans.nii.gz")
    assert saved.shape == done["fixed"].shape[1:]
    np.testing.assert_allclose(saved.affine, done["fixed"].affine, atol=1e-4)


def test_inverse_saves_on_the_moving_file_s_grid(item, tmp_path):
    pipeline = Compose([LoadImagePaird(), Orientationd("moving", "SRP", labels=None), Registerd(**OPTIONS)])
    back = pipeline.inverse(pipeline(item))
    SaveImaged("moved", output_dir=tmp_path, output_postfix="back", resample=True, print_log=False)(back)
    saved, moving = nibabel.load(tmp_path / "moving" / "moving_back.nii.gz"), nibabel.load(item["moving"])
    assert saved.shape == moving.shape
    np.testing.assert_allclose(saved.affine, moving.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5", ".mat", ".nii.gz"])
def test_simpleitk_reads_every_format_as_the_same_map(tmp_path, suffix):
    moved = MetaTensor(FIXED.as_tensor(), affine=FIXED.affine, meta={"filename_or_obj": "/scans/T2.nii.gz"})
    SaveTransformd(output_dir=tmp_path, output_ext=suffix, separate_folder=False)(
        {"moved": moved, "transform": motion(3)}
    )
    file = tmp_path / f"T2_transform{suffix}"
    if suffix == ".nii.gz":
        field = sitk.ReadImage(str(file), sitk.sitkVectorFloat64)
        read = sitk.DisplacementFieldTransform(field)
    else:
        read = sitk.ReadTransform(str(file))
    for index in ((3, 4, 5), (20, 11, 7)):
        point = (Grid.of(FIXED).index_to_world(torch.tensor(index)).numpy() * [-1, -1, 1]).tolist()
        np.testing.assert_allclose(read.TransformPoint(point), itk_affine(motion(3)).TransformPoint(point), atol=1e-4)


def test_displacements_are_saved_and_names_follow_options(tmp_path):
    field = to_tensor(wave(Grid.of(FIXED)), Grid.of(FIXED))
    moved = MetaTensor(FIXED.as_tensor(), affine=FIXED.affine, meta={"filename_or_obj": "/scans/p1/T2.nii.gz"})
    save = SaveTransformd("t", tmp_path, "m", ".h5", "warp", data_root_dir="/scans")
    save({"m": moved, "t": field})
    back = read_transform(tmp_path / "p1" / "T2" / "T2_warp.h5")
    torch.testing.assert_close(back.displacement.movedim(-1, 0), field.as_tensor(), atol=1e-6, rtol=0)


def test_save_refuses(tmp_path):
    with pytest.raises(InputError, match=r"output_ext: unknown value '\.lta'"):
        SaveTransformd(output_ext=".lta")
    nameless = MetaTensor(FIXED.as_tensor(), affine=FIXED.affine)
    with pytest.raises(InputError, match="'moved' has no file name"):
        SaveTransformd(output_dir=tmp_path)({"moved": nameless, "transform": motion(3)})
    with pytest.raises(KeyError, match="transform"):
        SaveTransformd(output_dir=tmp_path)({"moved": nameless})
    assert SaveTransformd(output_dir=tmp_path, allow_missing_keys=True)({"moved": nameless}) == {"moved": nameless}


def test_aliases():
    for name in ("LoadImagePaird", "SaveTransformd"):
        assert all(getattr(files, name[:-1] + end) is getattr(files, name) for end in ("D", "Dict"))
