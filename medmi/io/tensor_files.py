"""Files of tensors, as training writes them: read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from medmi.validation import InputError


def read_tensors(path: str | os.PathLike[str], kind: str, wanted: str) -> Any:
    """What ``torch.save`` put there: tensors, numbers, words, and lists and mappings of them.

    Args:
        path: of the file.
        kind: what it should be, in words: ``checkpoint``.
        wanted: what to give instead where there is none.

    Raises:
        InputError: no such file, or one that holds anything else.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; give {wanted}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged archive can raise anything that unpacking knows; each means the same to the reader.
    except Exception as error:
        raise InputError(f"{path}: is damaged or no {kind} ({type(error).__name__})") from error
