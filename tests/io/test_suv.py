"""SUV by body weight against the formula written out, and every check of the header."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset

from medmi.io import read_image, standardized_uptake_value
from medmi.io.suv import suv_factor
from medmi.validation import InputError
from tests.io.making import save, series_datasets

DOSE, HALF_LIFE, WEIGHT, ELAPSED = 370e6, 6586.2, 72.5, 3723.5


def pet(**changes: object) -> FileDataset:
    dataset = series_datasets(1)[0]
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = DOSE, HALF_LIFE
    drug.RadiopharmaceuticalStartDateTime = "20240229085856.50"
    dataset.RadiopharmaceuticalInformationSequence = [drug]
    fields: dict[str, object] = {
        "Modality": "PT",
        "Units": "BQML",
        "CorrectedImage": ["DECY", "ATTN", "SCAT"],
        "DecayCorrection": "START",
        "PatientWeight": WEIGHT,
        "SeriesDate": "20240229",
        "SeriesTime": "100100",
        "AcquisitionDate": "20240229",
        "AcquisitionTime": "100203.25",
    }
    for keyword, value in (fields | changes).items():
        if keyword.startswith("Radio"):
            setattr(drug, keyword, value)
        else:
            setattr(dataset, keyword, value)
    return dataset


def test_decayed_to_the_start_of_the_scan():
    assert suv_factor(pet()) == pytest.approx(1000 * WEIGHT / (DOSE * 2 ** (-ELAPSED / HALF_LIFE)), rel=1e-12)


def test_corrected_to_the_injection():
    assert suv_factor(pet(DecayCorrection="ADMIN")) == pytest.approx(1000 * WEIGHT / DOSE, rel=1e-12)


def test_injection_time_without_a_date_is_of_the_same_day():
    dataset = pet(RadiopharmaceuticalStartTime="085856.50")
    del dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime
    assert suv_factor(dataset) == pytest.approx(suv_factor(pet()), rel=1e-12)


def test_injection_before_midnight():
    changed = pet(RadiopharmaceuticalStartDateTime="20240228233000", SeriesTime="003000", AcquisitionTime="003100")
    assert suv_factor(changed) == pytest.approx(1000 * WEIGHT / (DOSE * 2 ** (-3600 / HALF_LIFE)), rel=1e-12)


def test_suv_already():
    assert suv_factor(pet(Units="GML", SUVType="BW")) == 1.0
    with pytest.raises(InputError, match="LBM"):
        suv_factor(pet(Units="GML", SUVType="LBM"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Units": "CNTS"}, "'CNTS'"),
        ({"CorrectedImage": ["DECY"]}, "lacks the corrections ATTN"),
        ({"CorrectedImage": ["ATTN"]}, "lacks the corrections DECY"),
        ({"PatientWeight": None}, "PatientWeight"),
        ({"PatientWeight": 0}, "PatientWeight"),
        ({"PatientWeight": 72500}, "not plausible"),
        ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose"),
        ({"RadionuclideHalfLife": -1}, "RadionuclideHalfLife"),
        ({"DecayCorrection": "NONE"}, "START or ADMIN"),
        ({"RadiopharmaceuticalStartDateTime": "20240229110000"}, "between injection and scan"),
        ({"RadiopharmaceuticalStartDateTime": "20240227085856"}, "between injection and scan"),
        ({"RadiopharmaceuticalStartDateTime": ""}, "RadiopharmaceuticalStartTime is missing"),
        ({"SeriesTime": "110000"}, "later than its first acquisition"),
        ({"SeriesTime": None}, "SeriesDate, SeriesTime is missing"),
        ({"RadiopharmaceuticalInformationSequence": []}, "0 injections"),
    ],
)
def test_headers_that_do_not_do(changes, message):
    dataset = pet(**{k: v for k, v in changes.items() if k != "RadiopharmaceuticalInformationSequence"})
    if "RadiopharmaceuticalInformationSequence" in changes:
        dataset.RadiopharmaceuticalInformationSequence = []
    with pytest.raises(InputError, match=message):
        suv_factor(dataset)


def test_an_image_and_its_folder(tmp_path):
    dataset = pet()
    dataset.RescaleIntercept = 0
    folder = save(tmp_path, [dataset])
    image = read_image(folder)
    suv = standardized_uptake_value(image, folder)
    assert np.allclose(suv.numpy(), image.numpy() * suv_factor(pydicom.dcmread(folder / "IM001.dcm")), rtol=1e-6)
    assert np.array_equal(suv.affine.numpy(), image.affine.numpy())


def test_real_pet(data):
    folder = data / "dicom-ct-mr-pet" / "STS_042" / "PET" / "image"
    image = read_image(folder)
    suv = standardized_uptake_value(image, folder)
    assert np.array_equal(suv.numpy(), image.numpy())  # stored as SUV already
    assert 1 < float(suv.max()) < 50
