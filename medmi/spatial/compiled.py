"""How loops over voxels and points are compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba

Loop = Callable[..., Any]


def _compile(function: Loop, fastmath: set[str]) -> Loop:
    """``numba.njit`` with the machine code kept on disk, or in memory alone where no folder can be written."""
    compile_in_memory = partial(numba.njit, nogil=True, error_model="numpy", fastmath=fastmath)
    try:
        return compile_in_memory(function, cache=True)
    except RuntimeError:  # numba found no writable place for its cache
        return compile_in_memory(function)


compiled = partial(_compile, fastmath=set())
# Products and sums may be fused and sums taken in another order, so that whole vectors of points are worked on at once; NaN and infinity
# keep their meaning.
vectorised = partial(_compile, fastmath={"contract", "reassoc", "nsz"})
