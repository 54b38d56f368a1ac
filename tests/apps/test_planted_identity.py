"""Identifiers planted in every input appear in no output: files, however packed, standard output, error messages.

DICOM results are the exception, as far as the standard ties them to a patient and a study: exactly that far.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import zlib

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medmi.io.dicom_objects import OPTIONAL, REQUIRED
from medmi.io.dicom_sources import quiet
from tests.io.drawing import CIRCLE, centre, contour, drawn, structures
from tests.io.making import save, series_datasets
from tests.io.registering import FIXED_FRAME, MOVING_FRAME, OTHER_STUDY, STUDY, with_study
from tests.oracles.command_line import Outcome, run, run_alone
from tests.oracles.planting import WORD, WORDS, layers, leaks, plant, plant_nifti, traces
from tests.oracles.scene import truth, write_pair

# What a DICOM result keeps: PS3.3 C.7.1.1 and C.7.2.1 ask for it, or a value means nothing without it.
KEPT = {
    *("PatientName", "PatientID", "PatientBirthDate", "IssuerOfPatientID", "ReferringPhysicianName", "StudyID"),
    *("AccessionNumber", "StudyDescription", "DeidentificationMethod"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Planted inputs: CT and MR of one patient with drawings, in files named after him; NIfTI and MetaImage pairs."""
    folder = tmp_path_factory.mktemp("in") / f"{WORD}^Folder"
    for name, study, frame, modality in (("ct", STUDY, FIXED_FRAME, "CT"), ("mr", OTHER_STUDY, MOVING_FRAME, "MR")):
        datasets = [plant(with_study(d, study, frame, modality)) for d in series_datasets()]
        save(folder / name, datasets, prefix=f"{WORD}_FILE_")
    mr = folder / "mr"
    drawn(mr, mr / f"{WORD}_seg.dcm", "BINARY", np.pad(np.ones((2, 4, 4), np.uint8), ((2, 2), (3, 4), (4, 5))))
    structures(mr, mr / f"{WORD}_rt.dcm", [contour(centre(mr) + CIRCLE / 4)])
    refer_and_plant(mr / f"{WORD}_rt.dcm", next(mr.glob("*_FILE_001.dcm")))
    (folder / "plain").mkdir()
    for path in write_pair(folder / "plain", truth("rigid", 3)):
        plant_nifti(path)
        image = sitk.ReadImage(str(path))
        image.SetMetaData("PatientName", f"{WORD} KEY")
        for suffix in (".mha", ".nrrd"):
            sitk.WriteImage(image, str(path).replace(".nii.gz", suffix))
    (folder / "points.csv").write_text(f"label,x,y,z\n{WORD} a,1,2,3\n{WORD} b,4,5,6\n")
    return folder


def refer_and_plant(path: pathlib.Path, image: pathlib.Path) -> None:
    """Let the structure set name the series it was drawn on; plant whatever has room for it."""
    dataset, header = pydicom.dcmread(path), pydicom.dcmread(image)
    series, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    series.SeriesInstanceUID = header.SeriesInstanceUID
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    for keyword, word in WORDS.items():
        setattr(dataset, keyword, word)
    for region, observation in zip(dataset.StructureSetROISequence, dataset.RTROIObservationsSequence):
        region.ROIDescription = region.ROIGenerationDescription = f"{WORD} REGION"
        observation.ROIInterpreter, observation.ROIObservationDescription = f"{WORD}^I", f"{WORD} SAID"
    dataset.save_as(path)


def silent(outcome: Outcome, code: int = 0) -> None:
    """The exit code, and nothing planted on either stream but in the paths that the user gave."""
    assert outcome.code == code, outcome
    assert traces((outcome.out + outcome.err).encode()) == set()


def test_the_search_finds_what_is_there(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    for path in sorted((folder / "plain").iterdir()):
        shutil.copy(path, tmp_path / "copy")
    assert set(leaks(tmp_path / "copy")) == {p.name for p in (folder / "plain").iterdir()}
    packed = zlib.compress(b"<img>" + f"{WORD}^X".encode() * 9)
    assert traces(b"12" + packed) and list(layers(packed)) and traces(f"{WORD}".encode("utf-16"))
    assert len(WORDS) > 150 and {"PatientName", "InstitutionName", "OperatorsName", "AccessionNumber"} < set(WORDS)


@pytest.fixture(scope="module")
def results(folder, tmp_path_factory) -> pathlib.Path:
    """What ``register --dicom-out`` wrote of the planted series."""
    out = tmp_path_factory.mktemp("results") / "out"
    asked = ["--initial", "identity", "--transform", "translation", "--dicom-out", "--json"]
    silent(run("register", folder / "ct", f"{folder / 'mr'}#MR", "-o", out, *asked))
    return out


def test_register_leaves_no_trace_but_in_dicom(results):
    assert {name.split("/")[0] for name in leaks(results)} == {"dicom"}
    assert (results / "report.html").exists() and (results / "comparison.png").exists()


def test_dicom_results_keep_patient_and_study_and_nothing_else(results):
    files = sorted((results / "dicom").rglob("*.dcm"))
    assert {f.stem.split("_")[0] for f in files} == {
        "registration",
        "contours",
        "segmentation",
        *(f"{k:04d}" for k in range(1, 7)),
    }
    assert {*REQUIRED, *OPTIONAL} >= KEPT
    gone = {word for keyword, word in WORDS.items() if keyword not in KEPT}
    for file in files:
        dataset = pydicom.dcmread(file)
        kept = {e.keyword for e in dataset.iterall() if traces(str(e.value).encode())}
        assert kept <= KEPT and KEPT - kept <= {"DeidentificationMethod"}, file
        for keyword in kept:
            assert str(dataset[keyword].value) == WORDS[keyword]
        found = traces(file.read_bytes())
        assert not found & gone and found <= {WORDS[keyword] for keyword in kept}, file


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_register_of_other_files(folder, tmp_path, suffix):
    pair = folder / "plain" / f"fixed{suffix}", folder / "plain" / f"moving{suffix}"
    silent(run("register", *pair, "-o", tmp_path / "out", "--preset", "fast", "--json"))
    assert leaks(tmp_path) == {}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_apply(folder, results, tmp_path, suffix):
    (tmp_path / "t").mkdir()
    transform = shutil.copy(results / "transform.tfm", tmp_path / "t")
    for name, moving, reference in (
        ("dicom", folder / "mr", folder / "ct"),
        ("nifti", folder / "plain" / "moving.nii.gz", folder / "plain" / "fixed.mha"),
    ):
        chosen = f"{moving}#MR" if name == "dicom" else moving
        out = tmp_path / f"{name}{suffix}"
        silent(run("apply", chosen, "--transform", transform, "--reference", reference, "-o", out, "--json"))
    assert leaks(tmp_path) == {}


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5", ".mat", ".fsl", ".lta", ".1D", ".nii.gz"])
def test_convert(folder, results, tmp_path, suffix):
    images = [] if suffix == ".1D" else ["--fixed", folder / "ct", "--moving", f"{folder / 'mr'}#MR"]
    silent(run("convert", results / "transform.tfm", tmp_path / f"t{suffix}", *images, "--json"))
    silent(run("convert", results / "dicom" / "registration.dcm", tmp_path / f"r{suffix}", *images, "--json"))
    assert leaks(tmp_path) == {}


def test_what_is_only_printed(folder, results):
    points = folder / "points.csv"
    silent(run("mi", folder / "ct", f"{folder / 'mr'}#MR", "--json"))
    silent(run("mi", folder / "plain" / "fixed.nii.gz", folder / "plain" / "moving.mha"))
    transform = ["--transform", results / "transform.tfm"]
    silent(run("evaluate", *transform, "--fixed-points", points, "--moving-points", points, "--json"))
    paths = [folder / "ct", folder / "mr", folder / "plain" / "fixed.nii.gz", results / "dicom" / "registration.dcm"]
    for path in (*paths, results / "dicom" / "moved", next((folder / "ct").iterdir())):
        for form in ([], ["--json"]):
            silent(run("info", path, *form))


def test_batch(folder, tmp_path):
    rows = [
        f"a,{folder}/ct,{folder}/mr#MR",
        f"b,{folder}/plain/fixed.nii.gz,{folder}/plain/moving.nii.gz",
        f"gone,{folder}/ct/none.dcm,{folder}/mr#MR",
        f"choice,{folder}/ct,{folder}",
        f"broken,{folder}/ct,{folder}/broken",
    ]
    (folder / "broken").mkdir(exist_ok=True)
    whole = next((folder / "ct").iterdir())
    (folder / "broken" / whole.name).write_bytes(whole.read_bytes()[:-100])
    table = folder / "pairs.csv"
    table.write_text("\n".join(["id,fixed,moving", *rows]) + "\n")
    out = tmp_path / "out"
    for _ in range(2):
        silent(run("batch", table, "-o", out, "--preset", "fast", "--initial", "identity", "--json"), 3)
        assert leaks(tmp_path) == {}
    messages = [line.split(",", 5)[5] for line in (out / "summary.csv").read_text().splitlines()[3:]]
    assert all(messages) and messages[0].startswith("fixed: no such file")
    shutil.rmtree(folder / "broken")


def headers_only(text: str) -> set[str]:
    """Planted words in a message, those of the folder's and files' own names aside: the user must know which file."""
    return {t for t in traces(text.encode()) if t not in (f"{WORD}^Folder", WORD)}


def damaged(folder: pathlib.Path, out: pathlib.Path, change) -> pathlib.Path:
    """The CT with a change to each header."""
    out.mkdir()
    for k, file in enumerate(sorted((folder / "ct").iterdir())):
        dataset = pydicom.dcmread(file)
        change(dataset, k)
        with quiet():
            dataset.save_as(out / f"{k}.dcm")
    return out


CHANGES = {
    "a gap": lambda d, k: setattr(d, "ImagePositionPatient", [0, 0, [0, 1, 2, 7, 8, 9][k]]),
    "two series": lambda d, k: setattr(d, "SeriesInstanceUID", f"1.2.{k // 3}"),
    "another patient": lambda d, k: setattr(d, "PatientID", f"{WORD}-ID-2"),
    "no frame of reference": lambda d, k: delattr(d, "FrameOfReferenceUID"),
    "pixels that are missing": lambda d, k: setattr(d, "PixelData", d.PixelData[:-40]),
    "a size that is none": lambda d, k: setattr(d, "Rows", 0),
    "unevenly oriented": lambda d, k: setattr(
        d, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0] if k < 3 else [0, 1, 0, 0, 0, 1]
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_error_messages(folder, tmp_path, case):
    series = damaged(folder, tmp_path / "in", CHANGES[case])
    done = run(
        "register", series, f"{folder / 'mr'}#MR", "-o", tmp_path / "out", "--initial", "identity", "--dicom-out"
    )
    assert done.code == 2 and headers_only(done.out + done.err) == set(), done
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_process_of_its_own_warns_of_nothing_planted(folder, tmp_path):
    """Values that break their type's rules, which pydicom warns of by quoting them."""

    def spoil(dataset: pydicom.Dataset, k: int) -> None:
        with pydicom.config.disable_value_validation():
            dataset.PatientBirthDate = f"{WORD}BIRTH"
            dataset.PatientID = f"{WORD}ID" * 20
            dataset.AccessionNumber = f"{WORD}ACC" * 5
            dataset.StudyDate = f"{WORD}DATE"
            dataset.PatientAge, dataset.SpecificCharacterSet = f"{WORD}AGE", f"{WORD}SET"

    series = damaged(folder, tmp_path / "in", spoil)
    done = run_alone("register", series, series, "-o", tmp_path / "out", "--dicom-out", "--debug", "--json")
    assert done.code == 0 and json.loads(done.out)["status"]
    assert traces((done.out + done.err).encode()) == set()
    assert {name.split("/")[0] for name in leaks(tmp_path / "out")} == {"dicom"}
