"""Classes of libraries that are slow to import, for checks that need not import them."""

from __future__ import annotations

import sys
from typing import Any


def loaded(module: str, name: str) -> Any:
    """The class of that name, for ``isinstance`` or ``except``; where nobody has imported its module yet, what fits nothing.

    >>> isinstance(1.5, loaded("builtins", "float")), isinstance(1.5, loaded("never_imported", "float"))
    (True, False)
    """
    return getattr(sys.modules.get(module), name, ())
