"""Fixtures every test may ask for: threads, the folder of real images, unlike oblique grids."""

from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Iterator

# Before torch starts its threads: an idle thread that spins takes the core another needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _two_threads():
    """Two threads for all, or as OMP_NUM_THREADS says: libraries that take every core by default slow each other down."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    """Folder of real images with ground truth, named by MEDMI_TEST_DATA."""
    folder = os.environ.get("MEDMI_TEST_DATA")
    if not folder:
        pytest.skip("MEDMI_TEST_DATA is unset: no real images to test on")
    return pathlib.Path(folder)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Commands that a test starts hear Ctrl-C, also where the tests do not, as jobs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
