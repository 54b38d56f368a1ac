"""Identifiers planted in inputs, and a search for them in outputs, through every layer of packing.

Every text attribute that DICOM has for people, institutions, visits and orders gets a word of its own.
"""

from __future__ import annotations

import base64
import binascii
import pathlib
import re
import zlib
from collections.abc import Iterator

import nibabel
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

WORD = "PLANTED"
BIRTH_DATE = "19010203"
TEXT = {"PN", "LO", "SH", "LT", "ST", "UT", "UC"}
PEOPLE_GROUPS = {0x0008, 0x0010, 0x0012, 0x0032, 0x0038, 0x0040}
# What a series is called, by whose words its user chooses it; and texts that say how the header is to be read.
NOT_PLANTED = {"SeriesDescription", "Manufacturer", "ManufacturerModelName", "TimezoneOffsetFromUTC"}
PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
TRACE = re.compile(rb"PLANTED\d{3}X(?:\^N)?|(?i:planted)[ A-Za-z^]{0,12}|" + BIRTH_DATE.encode())
BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")


def words() -> dict[str, str]:
    """The word of each attribute, by its keyword."""
    found = {"PatientBirthDate": BIRTH_DATE}
    for tag, (vr, vm, _, retired, keyword) in DicomDictionary.items():
        personal = tag >> 16 in PEOPLE_GROUPS or vr in ("PN", "LT", "ST", "UT") or keyword == "StudyID"
        if (
            vr in TEXT
            and vm.startswith("1")
            and personal
            and not retired
            and keyword not in NOT_PLANTED
            and tag >> 16 < 0x50
        ):
            found[keyword] = f"{WORD}{len(found):03d}X{'^N' if vr == 'PN' else ''}"
    return found


WORDS = words()


def plant(dataset: Dataset) -> Dataset:
    """Every attribute of :data:`WORDS`, a private one, and some in sequences."""
    for keyword, word in WORDS.items():
        setattr(dataset, keyword, word)
    block = dataset.private_block(0x0011, f"{WORD} PRIVATE", create=True)
    block.add_new(0x01, "LO", f"{WORD} PRIVATE VALUE")
    other, request, equipment = Dataset(), Dataset(), Dataset()
    other.PatientID, other.TypeOfPatientID = f"{WORD} OTHER ID", "TEXT"
    request.RequestedProcedureDescription = request.RequestedProcedureID = f"{WORD} ORDER"
    equipment.InstitutionName, equipment.Manufacturer, equipment.StationName = f"{WORD} PLACE", "m", f"{WORD} ROOM"
    dataset.OtherPatientIDsSequence, dataset.RequestAttributesSequence = [other], [request]
    dataset.ContributingEquipmentSequence = [equipment]
    return dataset


def plant_nifti(path: pathlib.Path) -> None:
    """The texts of a NIfTI header, and an extension."""
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(image.get_fdata().astype("float32"), image.affine, image.header)
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[name] = f"{WORD}{name[:4]}".encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", f"{WORD} EXTENSION".encode()))
    nibabel.save(image, path)


def layers(raw: bytes, depth: int = 3) -> Iterator[bytes]:
    """The bytes, and whatever is packed in them: gzip and zlib streams at any place, base64, and so on."""
    yield raw
    if not depth:
        return
    for match in PACKED.finditer(raw):
        stream = zlib.decompressobj(31 if match[0].startswith(b"\x1f") else 15)
        try:
            inner = stream.decompress(raw[match.start() :], 2**26)
        except zlib.error:
            continue
        if len(inner) > 8:
            yield from layers(inner, depth - 1)
    for match in BASE64.finditer(raw):
        try:
            yield from layers(base64.b64decode(match[0]), depth - 1)
        except binascii.Error:
            continue


def traces(raw: bytes) -> set[str]:
    """What of the planted words is in some bytes, however packed, in UTF-8 or UTF-16."""
    found = set()
    for layer in layers(raw):
        wide = layer.replace(b"\0", b"")
        for text in (layer, wide):
            found |= {match.decode().strip() for match in TRACE.findall(text)}
    return found


def leaks(folder: pathlib.Path) -> dict[str, set[str]]:
    """The files below a folder that bear a planted word, in name or contents."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {str(p.relative_to(folder)): traces(str(p.relative_to(folder)).encode() + p.read_bytes()) for p in files}
    return {name: words for name, words in found.items() if words}
