"""What arrays free is there for the next: counted by the faults of their pages."""

from __future__ import annotations

import mmap
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, medmi, torch
from medmi.image import Image

grid = medmi.Grid((20, 22, 24), torch.eye(4))
blob = torch.exp(-(grid.points() - torch.tensor([9.0, 11, 13])).square().sum(-1) / 40).float()
image = Image(blob[None], grid.affine)
medmi.register(image, image, initial="identity", threads=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    [torch.ones(3 << 18) for _ in range(12)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="how other libraries of C keep memory is their own affair"
)
def test_arrays_after_a_registration_take_the_pages_of_those_before():
    """Ten times twelve tensors of 3 MiB; the pages of the first twelve serve all."""
    pages = (36 << 20) // mmap.PAGESIZE
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.25 * pages
