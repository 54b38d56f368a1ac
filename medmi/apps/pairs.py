"""The table of pairs that ``medmi batch`` works through: read from CSV, checked row by row before anything starts.

Words: a *cell* is named by its row, counted as a spreadsheet does with the header as row 1, and by its column.
"""

from __future__ import annotations

import csv
import pathlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, fields

from medmi.io.files import PathLike, existing_file, one_line
from medmi.registration.initialise import STARTS
from medmi.validation import InputError, suggestion

REQUIRED = ("id", "fixed", "moving")
OPTIONAL = ("fixed_mask", "moving_mask", "initial")
STARTS_BY_NAME = ("auto", *STARTS)
LONGEST_NAME = 100
MOST_BYTES = 64 * 2**20
NOT_IN_A_NAME = re.compile(r"[^\w.-]")
RESERVED = {"summary.csv", "con", "prn", "aux", "nul"}


@dataclass(frozen=True)
class Pair:
    """One row: a name and where the images are.

    Attributes:
        id: as the table has it.
        fixed: path of the fixed image, absolute unless the table's own folder is given as a relative path.
        moving: of the moving image.
        fixed_mask: None where the row has none.
        moving_mask: likewise.
        initial: a start's name or the path of a transform file; None where the row leaves it to the batch.
    """

    id: str
    fixed: pathlib.Path
    moving: pathlib.Path
    fixed_mask: pathlib.Path | None = None
    moving_mask: pathlib.Path | None = None
    initial: str | None = None

    @property
    def folder(self) -> str:
        """Name of the pair's folder: the id, with ``_`` for whatever some file system refuses or reads otherwise.

        >>> Pair("P 7: left", pathlib.Path("a.nii"), pathlib.Path("b.nii")).folder
        'P_7__left'
        """
        return NOT_IN_A_NAME.sub("_", unicodedata.normalize("NFC", self.id))


def read_pairs(path: PathLike) -> list[Pair]:
    """The pairs of a table with columns ``id, fixed, moving`` and perhaps ``fixed_mask, moving_mask, initial``.

    Relative paths in it start from the table's own folder.

    Raises:
        InputError: no such file, no CSV in UTF-8, columns missing, unknown or doubled, a row with a cell too many or
            empty where it must not be, an id that cannot name a folder, or two ids that name the same one.
    """
    file = existing_file(path)
    if file.stat().st_size > MOST_BYTES:
        raise InputError(f"{file}: has {file.stat().st_size} bytes; a table of pairs has at most {MOST_BYTES}")
    with one_line(file, "a table of pairs in CSV, UTF-8"):
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream, strict=True)]
        columns = header(file, rows)
        pairs = {k: pair(file, k, columns, row) for k, row in enumerate(rows[1:], start=2) if any(row)}
        if not pairs:
            raise InputError(f"{file}: has no row below its header; give one row a pair")
        check_distinct(file, pairs)
    return list(pairs.values())


def header(file: pathlib.Path, rows: list[list[str]]) -> list[str]:
    """The names of the columns, checked."""
    names = [name.lower() for name in rows[0]] if rows else []
    known = (*REQUIRED, *OPTIONAL)
    for k, name in enumerate(names):
        if name not in known:
            near = suggestion(name, known)
            raise InputError(f"{file}: row 1, column {k + 1}: unknown name {name!r}{near} One of: {', '.join(known)}")
        if name in names[:k]:
            raise InputError(f"{file}: row 1, column {name}: is there twice")
    for name in REQUIRED:
        if name not in names:
            raise InputError(f"{file}: row 1: has no column {name}; {', '.join(REQUIRED)} are needed")
    return names


def pair(file: pathlib.Path, row: int, columns: list[str], cells: list[str]) -> Pair:
    """One row as a pair."""
    if len(cells) != len(columns):
        raise InputError(f"{file}: row {row}: has {len(cells)} cells, the header {len(columns)}")
    given = dict(zip(columns, cells))
    for name in (f.name for f in fields(Pair)):
        fault = FAULTS[name](given.get(name, ""))
        if fault:
            raise InputError(f"{file}: row {row}, column {name}: {fault}")
    paths = {name: file.parent / given[name] for name in ("fixed", "moving", *OPTIONAL) if given.get(name)}
    initial = given.get("initial") or None
    if initial and initial not in STARTS_BY_NAME:
        initial = str(paths["initial"])
    return Pair(
        given["id"], paths["fixed"], paths["moving"], paths.get("fixed_mask"), paths.get("moving_mask"), initial
    )


def fault_of_id(text: str) -> str:
    """Why an id cannot name a folder, or nothing."""
    if not text:
        return "is empty; every pair needs an id"
    if "/" in text or "\\" in text or text.startswith("."):
        return (
            f"{text[:40]!r} is a path or a hidden name; its folder is to lie in the batch's own, so give a plain name"
        )
    if not text.isprintable() or len(text.encode()) > LONGEST_NAME:
        return f"holds characters that cannot be shown, or more than {LONGEST_NAME} bytes; give a short name"
    if text.lower() in RESERVED or text.endswith("."):
        return f"{text!r} cannot name a folder everywhere; give another"
    return ""


def fault_of_path(text: str) -> str:
    """Why a cell cannot be a path, or nothing; whether something is there is asked when the pair's turn comes."""
    return "" if text.isprintable() else "holds characters that cannot be shown; give a path"


def fault_of_image(text: str) -> str:
    """As of a path, and it must be there."""
    return fault_of_path(text) if text else "is empty; give the path of an image"


def fault_of_start(text: str) -> str:
    """Why a cell is no start, or nothing."""
    if text and text not in STARTS_BY_NAME and not pathlib.Path(text).suffix:
        return (
            f"unknown start {text[:40]!r}{suggestion(text, STARTS_BY_NAME)} One of: {', '.join(STARTS_BY_NAME)}, a file"
        )
    return fault_of_path(text)


FAULTS: dict[str, Callable[[str], str]] = {
    "id": fault_of_id,
    "fixed": fault_of_image,
    "moving": fault_of_image,
    "fixed_mask": fault_of_path,
    "moving_mask": fault_of_path,
    "initial": fault_of_start,
}


def check_distinct(file: pathlib.Path, pairs: dict[int, Pair]) -> None:
    """Refuse two pairs that would share a folder; some file systems do not tell upper from lower case."""
    seen: dict[str, int] = {}
    for row, one in pairs.items():
        name = one.folder.casefold()
        if name in seen:
            raise InputError(
                f"{file}: row {row}, column id: {one.id!r} names the same folder as row {seen[name]}; give another id"
            )
        seen[name] = row
