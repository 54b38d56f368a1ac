"""Importing medmi: it goes without garbage collection, and leaves that as it was."""

from __future__ import annotations

import gc
import subprocess
import sys


def test_garbage_collection_is_as_it_was_before_the_import():
    import medmi

    assert medmi.__version__ and gc.isenabled()
    code = "import gc; gc.disable(); import medmi; assert not gc.isenabled()"
    subprocess.run([sys.executable, "-c", code], check=True)
