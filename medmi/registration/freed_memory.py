"""Memory that arrays have freed stays with the process for the next.

glibc gives much freed memory back to the system and asks for it anew, at a fault for every page: a sixth of the time of a registration of
two heads. How much it keeps is twice the largest array that it has seen freed, of those up to 32 MiB. So one of about that size, none of
whose pages is ever touched, is freed before anything else. Whoever sets glibc's thresholds, by its environment or ``mallopt``, keeps what
is set; other libraries of C take no notice.

Source: mallopt(3), ``M_MMAP_THRESHOLD`` and ``M_TRIM_THRESHOLD``.
"""

from __future__ import annotations

from functools import cache

import numpy as np

KEPT_BYTES = 31 << 20


@cache
def keep_freed_memory() -> None:
    """Once in a process."""
    np.empty(KEPT_BYTES, np.uint8)
