"""Importing medmi: without garbage collection, and without the libraries that a registration of files can do without."""

from __future__ import annotations

import ast
import gc
import importlib
import pathlib
import subprocess
import sys

import pytest

LAZY_PACKAGES = ["information", "io", "losses", "networks", "simulation"]
WITHOUT = """
import sys, torch, medmi
from medmi.image import Image
from medmi.io import write_image

grid = medmi.Grid((20, 22, 24), torch.diag(torch.tensor([2.0, 2, 2, 1])))
blob = torch.exp(-(grid.points() - torch.tensor([18.0, 21, 25])).square().sum(-1) / 90).float()
for name in ("fixed.nii.gz", "moving.nii"):
    write_image(Image(blob[None], grid.affine), name)
result = medmi.register("fixed.nii.gz", "moving.nii", initial="identity", threads=1)
assert result.moved_image.shape == (1, 20, 22, 24) and result.confidence is not None
print(*sorted({"monai", "SimpleITK", "matplotlib"} & set(sys.modules)))
print(type(result.moved).__name__)
"""


def test_garbage_collection_is_as_it_was_before_the_import():
    import medmi

    assert medmi.__version__ and gc.isenabled()
    code = "import gc; gc.disable(); import medmi; assert not gc.isenabled()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_caller_has_frozen_stays_so():
    code = (
        "import gc; kept = [[] for _ in range(9999)]; gc.freeze(); import medmi; assert gc.get_freeze_count() >= 9999"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_are_registered_without_the_slow_libraries(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "MetaTensor"]


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_every_name_of_a_lazy_package_is_there_and_comes_from_where_its_stub_says(package):
    module = importlib.import_module(f"medmi.{package}")
    stub = ast.parse(pathlib.Path(module.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    said = {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(said) == sorted(module.__all__)
    for name, home in said.items():
        assert getattr(module, name) is getattr(importlib.import_module(f"medmi.{package}.{home}"), name)
