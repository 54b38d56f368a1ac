"""One head stored in 48 axis orders: each, turned away, comes back onto the RAS one."""

from __future__ import annotations

import pathlib
from itertools import permutations, product

import pytest

from medmi import register
from tests.oracles.misalignment import foreground_points, mean_error, read, turned

ORDERS = sorted("".join(way) for axes in permutations(("LR", "PA", "IS")) for way in product(*axes))
SOME = ["LPS", "PIR", "SAL", "ILA", "RSP"]


def orientation_error(data: pathlib.Path, order: str) -> float:
    folder = data / "nifti-orientations"
    fixed = read(folder / "RAS.nii.gz")
    moving, motion = turned(read(folder / f"{order}.nii.gz"), 10, 10, ORDERS.index(order))
    return mean_error(register(fixed, moving).transform.to_sitk(), motion, foreground_points(fixed))


@pytest.mark.parametrize("order", SOME)
def test_onto_ras(data, order):
    assert orientation_error(data, order) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("order", [order for order in ORDERS if order not in (*SOME, "RAS")])
def test_all_others_onto_ras(data, order):
    assert orientation_error(data, order) < 0.3
