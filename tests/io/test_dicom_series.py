"""Series of a folder: listed without patient data, chosen by number, UID, words or modality."""

from __future__ import annotations

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from medmi.io import list_series, read_image
from medmi.validation import InputError
from tests.io.making import save, series_datasets


def named(modality: str, number: int | None, description: str, slices: int = 3, **fields: object) -> list[FileDataset]:
    datasets = series_datasets(slices)
    for dataset in datasets:
        dataset.Modality, dataset.SeriesNumber, dataset.SeriesDescription = modality, number, description
        for keyword, value in fields.items():
            setattr(dataset, keyword, value)
    return datasets


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, named("CT", 2, "thorax"), "CT")
    save(tmp_path, named("MR", 31, "T1 axial", 4), "T1")
    save(tmp_path, named("MR", 32, "T2 axial", 5), "T2")
    return tmp_path


def test_all_are_listed_in_order(folder):
    rows = list_series(folder)
    assert [(r.number, r.modality, r.description, r.size) for r in rows] == [
        ("2", "CT", "thorax", (13, 11, 3)),
        ("31", "MR", "T1 axial", (13, 11, 4)),
        ("32", "MR", "T2 axial", (13, 11, 5)),
    ]


@pytest.mark.parametrize(
    ("wanted", "slices"), [("CT", 3), ("ct", 3), ("31", 4), ("T2 axial", 5), ("t2", 5), ("Thorax", 3)]
)
def test_chosen_by_words(folder, wanted, slices):
    assert read_image(folder, series=wanted).shape[-1] == slices
    assert read_image(f"{folder}#{wanted}").shape[-1] == slices


def test_chosen_by_uid(folder):
    for row in list_series(folder):
        assert read_image(folder, series=row.uid).shape[-1] == row.size[-1]
        assert read_image(folder, series=row.uid[-8:]).shape[-1] == row.size[-1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (None, "holds 3 series; choose one by number, UID, description or modality"),
        ("MR", "'MR' means 2 series"),
        ("axial", "'axial' means 2 series"),
        ("PET", "has no series 'PET'"),
    ],
)
def test_a_choice_is_needed(folder, wanted, message):
    with pytest.raises(InputError, match=message) as caught:
        read_image(folder, series=wanted)
    said = str(caught.value)
    assert "[31] MR 'T1 axial' 13x11x4" in said and "\n" not in said
    assert not any(secret in said for secret in ("Planted", "PLANTED", "1901"))


def test_localizers_and_other_companions_do_not_hinder(tmp_path):
    save(tmp_path, named("MR", 1, "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "LOC")
    save(tmp_path, named("RTDOSE", 2, "dose"), "DOSE")
    save(tmp_path, named("MR", 3, "T1", 5), "T1")
    assert read_image(tmp_path).shape[-1] == 5
    assert read_image(tmp_path, series="scout").shape[-1] == 3


def test_a_localizer_alone_is_the_image(tmp_path):
    save(tmp_path, named("MR", 1, "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert read_image(tmp_path).shape[-1] == 3


def test_objects_without_pixels_do_not_hinder(tmp_path):
    save(tmp_path, named("CT", 1, "CT"))
    other = series_datasets(1)[0]
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(other, keyword)
    other.Modality, other.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    save(tmp_path, [other], "RS")
    assert read_image(tmp_path).shape[-1] == 3
    with pytest.raises(InputError, match="is no DICOM image"):
        read_image(tmp_path / "RS001.dcm")


def test_names_of_series_are_made_printable(tmp_path):
    save(tmp_path, named("CT", 1, "line\rbreak \x1b[31m" + "x" * 40))
    assert list_series(tmp_path)[0].description.isprintable()
    assert len(list_series(tmp_path)[0].description) <= 40


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        list_series(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no DICOM images"):
        list_series(tmp_path)


def test_real_series(data):
    folder = data / "dicom-ct-mr-pet" / "STS_042"
    assert [(r.modality, r.size[-1]) for r in list_series(folder)] == [("CT", 49), ("PT", 49), ("MR", 42)]
    assert read_image(folder, series="PT").shape == (1, 26, 30, 49)
