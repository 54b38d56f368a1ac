"""What readers and writers share: files replaced in one step, other libraries' errors as a line that names the file.

Words: the *target* is the file a caller asked for; it exists whole or not at all.
"""

from __future__ import annotations

import csv
import os
import pathlib
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medmi.loaded import loaded
from medmi.validation import InputError

PathLike = str | os.PathLike[str]

# What the standard library, SimpleITK, nibabel, Pillow and pydicom raise over the contents of a file.
COMMON_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    SyntaxError,
    UserWarning,
    struct.error,
    csv.Error,
    zlib.error,
)
ERRORS_OF_LIBRARIES = (
    ("nibabel.filebasedimages", "ImageFileError"),
    ("nibabel.spatialimages", "HeaderDataError"),
    ("pydicom.errors", "InvalidDicomError"),
    ("pydicom.errors", "BytesLengthException"),
    ("PIL.Image", "DecompressionBombError"),
)

MOST_DEFLATED = 1040  # no deflate stream expands by more than about 1032


@contextmanager
def replacing(path: PathLike, suffix: str) -> Iterator[pathlib.Path]:
    """A temporary file beside ``path``, ending in ``suffix``, that takes its place when the block ends without error.

    Raises:
        InputError: the file cannot be written there.
    """
    target = pathlib.Path(path)
    try:
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=".", dir=target.parent)
        os.close(handle)
    except OSError as error:
        why = reason(error)
        raise InputError(f"{target}: cannot be written ({why}); give a folder that exists and is writable") from error
    temporary = pathlib.Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~current_umask())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{target}: cannot be written ({reason(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def current_umask() -> int:
    """The process's mask of permissions; the system tells it only while setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def one_line(path: PathLike, what: str) -> Iterator[None]:
    """Errors over a file's contents become an InputError: the path, ``what`` it is not readable as, and the cause."""
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory as {what}") from error
    except file_errors() as error:
        raise InputError(f"{path}: cannot be read as {what} ({reason(error)})") from error


def file_errors() -> tuple[Any, ...]:
    """What may be raised over the contents of a file by the libraries that have been imported, for ``except``."""
    return (*COMMON_ERRORS, *(loaded(module, name) for module, name in ERRORS_OF_LIBRARIES))


def reason(error: BaseException) -> str:
    """The telling line of an error's message: ITK puts it last, behind its own file names and addresses."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def existing_file(path: PathLike) -> pathlib.Path:
    """The path, or an InputError where no readable, non-empty file lies there."""
    file = pathlib.Path(path)
    if not file.exists():
        raise InputError(f"{file}: no such file or folder")
    if not file.is_file():
        raise InputError(f"{file}: is not a file")
    if not file.stat().st_size:
        raise InputError(f"{file}: is empty")
    return file
