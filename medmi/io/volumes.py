"""Which of several volumes: a file of many (time points, directions, frames of a film) never yields one by chance."""

from __future__ import annotations

from medmi.io.files import PathLike
from medmi.validation import InputError


def choose_volume(path: PathLike, count: int, volume: int | None, what: str = "a series") -> int:
    """The index of the volume to read.

    Raises:
        InputError: there are several and none was chosen, or there is none of that number.
    """
    if volume is None and count == 1:
        return 0
    if volume is None:
        how = f"choose one of 0 to {count - 1}: volume=0, or {path}#0 as a path"
        raise InputError(f"{path}: is {what} with {count} volumes; {how}")
    if not 0 <= volume < count:
        raise InputError(f"{path}: has no volume {volume}; there are 0 to {count - 1}")
    return volume
