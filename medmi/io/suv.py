"""Standardised uptake values: PET activity over the activity that was injected, decayed to the scan, per gram of the
body.

SUV = activity (Bq/ml) * body weight (g) / injected dose (Bq) at the time to which the image is decay-corrected. Body
weight is the only normalisation. The units are g/ml; 1 is what an even spread over the body would give.
"""

from __future__ import annotations

import datetime
import math
import pathlib
import warnings
from typing import TYPE_CHECKING

import pydicom
from pydicom.dataset import Dataset

from medmi.image import Image
from medmi.io.dicom_series import choose_series, find_series, words
from medmi.io.files import PathLike, one_line
from medmi.validation import InputError

if TYPE_CHECKING:
    from monai.data import MetaTensor

MOST_HALF_LIVES = 10.0
WEIGHTS_KG = (0.2, 500.0)


def standardized_uptake_value(image: MetaTensor, path: PathLike, series: str | None = None) -> MetaTensor:
    """The SUV (body weight, g/ml) of a PET image as :func:`medmi.io.read_image` gives it.

    Args:
        image: ``(C, *spatial)``, in the units of its DICOM series.
        path: the DICOM file or folder it was read from: dose, weight and times are in its header.
        series: which series of the folder, as for ``read_image``.

    Raises:
        InputError: see :func:`suv_factor`.
    """
    folder = pathlib.Path(path)
    chosen = choose_series(folder, find_series(folder), series)
    with one_line(folder, "PET"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about harmless departures from the standard
        headers = [pydicom.dcmread(f.path, stop_before_pixels=True, force=True) for f in chosen.frames]
        first = min(headers, key=lambda h: str(h.get("AcquisitionDate", "")) + str(h.get("AcquisitionTime", "")))
        factor = suv_factor(first)
    return Image(image.as_tensor() * factor, image.affine, str(image.meta.get("filename_or_obj", ""))).metatensor()


def suv_factor(header: Dataset) -> float:
    """What a PET image's values are multiplied by to give SUV (body weight), g/ml.

    Args:
        header: header of the series' first acquired slice.

    Returns:
        1 for images that are SUV by body weight already (Units GML), else weight over decayed dose.

    Raises:
        InputError: other units than Bq/ml or SUV by body weight, no decay or attenuation correction, no plausible
            weight, dose, half-life or times, or a series time later than the acquisition (the series was rewritten
            and its time lost).
    """
    units = str(header.get("Units", "")).upper()
    if units == "GML":
        if str(header.get("SUVType", "BW") or "BW").upper() != "BW":
            raise InputError(f"PET: values are SUV of the kind {header.SUVType!r}; body weight (BW) or Bq/ml is asked")
        return 1.0
    if units != "BQML":
        raise InputError(f"PET: values are in the units {units!r}; Bq/ml (BQML) is asked")
    corrections = set(words(header.get("CorrectedImage")))
    missing = {"ATTN", "DECY"} - corrections
    if missing:
        raise InputError(
            f"PET: image lacks the corrections {', '.join(sorted(missing))} (attenuation ATTN, decay DECY)"
        )
    weight = positive(header, "PatientWeight", "kg")
    if not WEIGHTS_KG[0] <= weight <= WEIGHTS_KG[1]:
        raise InputError(f"PET: PatientWeight of {weight:g} kg is not plausible; mend the header")
    return 1000 * weight / decayed_dose(header)


def decayed_dose(header: Dataset) -> float:
    """Injected dose in Bq at the time to which the image is corrected."""
    drugs = header.get("RadiopharmaceuticalInformationSequence") or []
    if len(drugs) != 1:
        raise InputError(f"PET: header describes {len(drugs)} injections; one is asked")
    dose = positive(drugs[0], "RadionuclideTotalDose", "Bq")
    correction = str(header.get("DecayCorrection", "")).upper()
    if correction == "ADMIN":
        return dose
    if correction != "START":
        raise InputError(f"PET: DecayCorrection is {correction!r}; START or ADMIN is asked")
    half_life = positive(drugs[0], "RadionuclideHalfLife", "s")
    elapsed = (scan_start(header) - injection(header, drugs[0])).total_seconds()
    if not 0 <= elapsed <= MOST_HALF_LIVES * half_life:
        raise InputError(
            f"PET: {elapsed:g} s lie between injection and scan (half-life {half_life:g} s); mend the times"
        )
    return dose * 2 ** (-elapsed / half_life)


def scan_start(header: Dataset) -> datetime.datetime:
    """The series time, to which START corrects."""
    series = moment(header.get("SeriesDate"), header.get("SeriesTime"), "SeriesDate, SeriesTime")
    acquisition = moment(header.get("AcquisitionDate"), header.get("AcquisitionTime"), "AcquisitionDate and -Time")
    if series > acquisition:
        raise InputError(
            "PET: the series time is later than its first acquisition: it was rewritten, its start is lost"
        )
    return series


def injection(header: Dataset, drug: Dataset) -> datetime.datetime:
    """When the dose was measured: its own date and time, or its time on the day of the series."""
    stamp = str(drug.get("RadiopharmaceuticalStartDateTime", "") or "")
    if stamp:
        return moment(stamp[:8], stamp[8:].split("+")[0].split("-")[0], "RadiopharmaceuticalStartDateTime")
    return moment(header.get("SeriesDate"), drug.get("RadiopharmaceuticalStartTime"), "RadiopharmaceuticalStartTime")


def moment(date: object, time: object, what: str) -> datetime.datetime:
    """A DICOM date (YYYYMMDD) and time (HHMMSS.ffffff) as one."""
    whole, _, fraction = str(time or "").partition(".")
    try:
        seconds = datetime.datetime.strptime(str(date or "") + whole, "%Y%m%d%H%M%S")
        return seconds + datetime.timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError as error:
        raise InputError(f"PET: {what} is missing or no date and time") from error


def positive(header: Dataset, keyword: str, unit: str) -> float:
    """A number above zero of the header."""
    value = header.get(keyword)
    number = math.nan if value in (None, "") else float(value)
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"PET: {keyword} ({unit}) is missing or not above zero; SUV needs it")
    return number
