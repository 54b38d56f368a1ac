"""The benchmark beside other systems: its motions, errors and tables, what it refuses, and a short run of each system."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from tests.oracles.misalignment import mapped

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "benchmarks"
SMALL = ("--pairs", "oblique", "--motions", "10", "--families", "rigid", "--seeds", "1", "--threads", "1")


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's modules, which lie beside one another as scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import peer_pairs
    import peer_systems
    import peer_tables

    return peer_pairs, peer_systems, peer_tables


def run(*arguments: object, timeout: int = 500) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "peers.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def image() -> sitk.Image:
    out = sitk.GetImageFromArray(np.random.default_rng(0).random((7, 9, 11)).astype(np.float32))
    out.SetSpacing((1.0, 2.0, 3.0))
    out.SetOrigin((10.0, -20.0, 30.0))
    out.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.1, 0.2, 0.3).GetMatrix())
    return out


@pytest.mark.parametrize("name", ["10", "45", "90", "180"])
def test_a_turned_image_has_its_points_where_the_motion_says(modules, name):
    pairs, _, _ = modules
    still = image()
    matrix = pairs.motion(still, name, 3)
    moved = pairs.turn(still, matrix)
    for index in ((0, 0, 0), (10, 8, 6), (3, 7, 1)):
        wanted = matrix[:3, :3] @ still.TransformIndexToPhysicalPoint(index) + matrix[:3, 3]
        assert np.allclose(moved.TransformIndexToPhysicalPoint(index), wanted, atol=1e-9)
    degrees, mm = pairs.MOTIONS[name]
    assert np.isclose(np.trace(matrix[:3, :3]), 1 + 2 * np.cos(np.deg2rad(degrees)))
    middle = np.array(still.TransformContinuousIndexToPhysicalPoint((5.0, 4.0, 3.0)))
    assert np.isclose(np.linalg.norm(matrix[:3, :3] @ middle + matrix[:3, 3] - middle), mm)


def test_seeds_draw_other_motions(modules):
    pairs, _, _ = modules
    assert not np.allclose(pairs.motion(image(), "20", 0), pairs.motion(image(), "20", 1))


def test_errors_are_distances_in_mm(modules):
    pairs, systems, _ = modules
    shift = sitk.TranslationTransform(3, (3.0, 4.0, 0.0))
    points = np.random.default_rng(1).normal(size=(5, 3)) * 50
    found = systems.matrix_of(shift.TransformPoint)
    assert np.allclose(pairs.errors(found, np.eye(4), points), 5)
    assert np.allclose(points @ found[:3, :3].T + found[:3, 3], mapped(shift, points))


def test_points_of_the_box_and_of_the_foreground_lie_in_the_image(modules):
    pairs, _, _ = modules
    mask = sitk.Cast(image() > 0.99, sitk.sitkUInt8)
    for points in (pairs.box(mask), pairs.foreground(image())):
        index = [image().TransformPhysicalPointToContinuousIndex(p) for p in points]
        assert np.all(np.round(index, 6) >= 0) and np.all(np.round(index, 6) <= (10, 8, 6))


def test_resampled_images_keep_their_frame(modules):
    pairs, _, _ = modules
    fine = pairs.resampled(image(), 0.5)
    assert fine.GetSpacing() == (0.5, 0.5, 0.5) and fine.GetOrigin() == image().GetOrigin()
    assert fine.GetSize() == (21, 33, 37)


def test_the_tables_count_and_compare(modules):
    _, _, tables = modules
    rows = [
        tables.Run("p", "10", seed, "rigid", system, mean, 2 * mean, seconds, mean < 1, "no" if mean > 50 else "")
        for system, values in {
            "medmi": [(0.5, 0.2), (0.7, 0.4)],
            "slow": [(0.5, 3.0), (0.6, 5.0)],
            "quick but wrong": [(9.0, 0.1), (99.0, 0.1)],
        }.items()
        for seed, (mean, seconds) in enumerate(values)
    ]
    memory = {("p", "medmi"): (100.0, 150.0), ("p", "slow"): (1.0, 2.0), ("p", "quick but wrong"): (1.0, 2.0)}
    page = tables.page(rows, "today", memory, 7.0)
    cells = ["2/2, 0.60 (1.20) mm, 0.30 s", "2/2, 0.55 (1.10) mm, 4.00 s", "0/2, 54.00 (108.00) mm, 0.10 s", "13.3"]
    assert f"| p | 10 | {' | '.join(cells)} |" in page
    assert "| p | 150 (+50) | 2 (+1) | 2 (+1) |" in page and "takes 7" in page
    assert "- quick but wrong, p, 10: no" in page
    alone = tables.page(rows[:2], "today", {}, 7.0)
    assert "2/2, 0.60 (1.20) mm, 0.30 s | - |" in alone and "Memory" not in alone


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pairs", "T1-T3"), "--pairs: unknown T1-T3; one of: T1-T2"),
        (("--systems", "spm"), "--systems: unknown spm; one of: medmi"),
        (("--motions", "11"), "--motions: unknown 11"),
        (("--families", "bspline"), "--families: unknown bspline; one of: rigid, affine"),
        (("--data", ""), "--data: name the folder of real images"),
    ],
)
def test_unknown_options_end_it_with_one_line(options, words):
    done = run(*options)
    assert done.returncode == 1 and done.stderr.startswith(words) and done.stdout == ""


@pytest.mark.slow
def test_the_quick_run(data, tmp_path):
    rows, page = tmp_path / "rows.jsonl", tmp_path / "peers.md"
    done = run("--quick", "--data", data, "--threads", "1", "--rows", rows, "--out", page)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert {(r["pair"], r["system"]) for r in found} == {
        (pair, system) for pair in ("T1-PD", "oblique") for system in ("medmi", "simpleitk")
    }
    assert all(r["ok"] for r in found)
    assert page.read_text() in done.stdout and "## Memory" in page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("system", ["elastix", "ants", "greedy"])
def test_each_other_system_runs(modules, data, system):
    _, systems, _ = modules
    if systems.SYSTEMS[system].missing():
        pytest.skip(f"{systems.SYSTEMS[system].package} is not installed; the extra bench brings it")
    done = run(*SMALL, "--systems", system, "--data", data, "--no-memory")
    assert done.returncode == 0 and "| 1/1, " in done.stdout, done.stdout + done.stderr
