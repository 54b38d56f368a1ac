"""Fixtures every test may ask for: threads, the folder of real images, unlike oblique grids."""

from __future__ import annotations

import os
import pathlib

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _two_threads():
    """Two threads for all: libraries that take every core by default slow each other down."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    """Folder of real images with ground truth, named by MEDMI_TEST_DATA."""
    folder = os.environ.get("MEDMI_TEST_DATA")
    if not folder:
        pytest.skip("MEDMI_TEST_DATA is unset: no real images to test on")
    return pathlib.Path(folder)
