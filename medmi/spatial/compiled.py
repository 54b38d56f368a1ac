"""How loops over voxels and points are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``numba.njit`` with the machine code kept on disk, or in memory alone where no folder can be written."""
    try:
        return numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # numba found no writable place for its cache
        return numba.njit(function, nogil=True, error_model="numpy")
