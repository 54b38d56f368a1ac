"""The DICOM series of a folder: found, described without patient data, chosen by UID, number, words or modality."""

from __future__ import annotations

import pathlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pydicom
from pydicom.dataset import Dataset

from medmi.io.dicom_frames import Frame, frames_of
from medmi.io.files import PathLike, file_errors, one_line
from medmi.validation import InputError

BARE_SUFFIXES = {"", ".dcm", ".ima", ".dicom"}
# Images that accompany a series and are not what a user means by "the image" where there is another.
COMPANIONS = {"RTDOSE", "SEG", "PR", "OT"}


@dataclass(frozen=True)
class Series:
    """One series of images. ``frames`` are its slices in the order of the files; no field holds patient data."""

    uid: str
    number: str
    modality: str
    description: str
    companion: bool
    frames: list[Frame] = field(default_factory=list, repr=False)

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns, rows and frames."""
        rows, columns = self.frames[0].shape if self.frames else (0, 0)
        return columns, rows, len(self.frames)

    def __str__(self) -> str:
        """Number, modality, description, size and the end of the UID."""
        size = "x".join(str(n) for n in self.size)
        return f"[{self.number or '-'}] {self.modality} {self.description!r} {size} (UID ...{self.uid[-8:]})"


def find_series(path: pathlib.Path) -> list[Series]:
    """All image series in a folder and those below it (or of one file), by number; other files are passed over.

    Raises:
        InputError: no DICOM image is there, or the only ones are damaged.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found: dict[str, list[tuple[Dataset, pathlib.Path]]] = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about harmless departures from the standard
        for file in files:
            header = image_header(file, alone=path.is_file())
            if header is None:
                continue
            with one_line(file, "DICOM"):
                found[str(header.get("SeriesInstanceUID", ""))].append((header, file))
        if not found:
            raise InputError(f"{path}: {'is no DICOM image' if path.is_file() else 'holds no DICOM images'}")
        with one_line(path, "DICOM"):
            series = [series_of(uid, members) for uid, members in found.items()]
    return sorted(series, key=lambda s: (s.number.zfill(8), s.uid))


def image_header(file: pathlib.Path, alone: bool) -> Dataset | None:
    """The header of a DICOM image, or None for any other file. A file asked for alone says what is wrong with it."""
    with file.open("rb") as stream:
        marked = stream.read(132)[128:] == b"DICM"
    if not marked and not alone and file.suffix.lower() not in BARE_SUFFIXES:
        return None
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, force=not marked)
        return header if "Rows" in header and "Columns" in header else None
    except (*file_errors(), RecursionError) as error:
        if alone:
            raise InputError(f"{file}: cannot be read as DICOM ({type(error).__name__})") from error
        return None


def series_of(uid: str, members: list[tuple[Dataset, pathlib.Path]]) -> Series:
    """A series from the headers of its files."""
    first = members[0][0]
    frames = []
    for header, file in members:
        with one_line(file, "DICOM"):
            frames += frames_of(header, file)
    modality = plain(first.get("Modality"))
    return Series(
        uid=uid,
        number=plain(first.get("SeriesNumber")),
        modality=modality,
        description=plain(first.get("SeriesDescription")),
        companion="LOCALIZER" in words(first.get("ImageType")) or modality in COMPANIONS,
        frames=frames,
    )


def words(value: object) -> list[str]:
    """A header's coded words in upper case; pydicom gives one of them as a string, several as a list."""
    if value is None or isinstance(value, str):
        return [value.upper()] if value else []
    return [str(v).upper() for v in value]  # type: ignore[attr-defined]


def plain(value: object) -> str:
    """A header's text, printable and short."""
    text = "" if value is None else str(value)
    return "".join(c for c in text if c.isprintable())[:40].strip()


MATCHES: tuple[Callable[[Series, str], bool], ...] = (
    lambda s, wanted: s.uid == wanted,
    lambda s, wanted: (
        wanted.lower() in (s.number.lower(), s.description.lower(), s.modality.lower())
        or (len(wanted) >= 4 and s.uid.endswith(wanted))
    ),
    lambda s, wanted: wanted.lower() in s.description.lower(),
)


def choose_series(path: PathLike, found: list[Series], wanted: str | None) -> Series:
    """The series a user means.

    Args:
        path: folder, for the messages.
        found: its series.
        wanted: UID, end of the UID (four characters or more), series number, modality, description or part of it;
            None where only one series is there beside localizers, dose grids, segmentations and the like.

    Raises:
        InputError: several series, or none, are meant; the message lists them.
    """
    if wanted is None:
        candidates = [s for s in found if not s.companion] or found
        if len(candidates) == 1:
            return candidates[0]
        raise InputError(
            f"{path}: holds {len(candidates)} series; choose one by number, UID, description or modality "
            f"(series=..., or {path}#... as a path): {listing(candidates)}"
        )
    for matches in MATCHES:
        meant = [s for s in found if matches(s, wanted)]
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise InputError(f"series: {wanted!r} means {len(meant)} series of {path}, be exact: {listing(meant)}")
    raise InputError(f"series: {path} has no series {wanted!r}; there are: {listing(found)}")


def listing(series: Iterable[Series]) -> str:
    """All of them in one line."""
    return "; ".join(str(s) for s in series)
