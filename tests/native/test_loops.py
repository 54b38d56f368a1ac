"""What the loops in C refuse, threads that share out their poses, and the logarithm of theirs."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from medmi.native import loops
from medmi.registration import kernels_cpu
from medmi.registration.histogram_cpu import TINY, inform_points, inform_poses, inform_tables
from medmi.registration.kept_cpu import LookUp, keep, pull_back

POSES, COUNT, BINS = 23, 700, 12
MATRICES, NO_RIM = np.eye(4)[None].repeat(3, 0), np.full(1, -np.inf, np.float32)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ((MATRICES.astype(np.float32), np.empty(3)), TypeError, "an array of f in 3 dimensions, 'd' was expected"),
        ((MATRICES.astype(">f8"), np.empty(3)), TypeError, "'d' was expected"),
        ((np.zeros((1, 1, 1, 1, 4, 4)), np.empty(1)), TypeError, "in 6 dimensions"),
        ((np.zeros((3, 4, 8))[..., ::2], np.empty(3)), ValueError, "not C-contiguous"),
        (([1.0], np.empty(1)), TypeError, "bytes-like object is required"),
        ((MATRICES,), TypeError, "determinants was given 1 arguments, it takes d>d"),
        ((MATRICES, np.empty(3), 1), TypeError, "determinants was given 3 arguments"),
    ],
)
def test_arguments_of_another_kind_are_refused(given, error, told):
    with pytest.raises(error, match=told):
        loops.determinants(*given)


def test_what_is_written_to_must_be_writable_and_numbers_numbers():
    out = np.empty(3)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        loops.determinants(MATRICES, out)
    with pytest.raises(TypeError, match="integer"):
        loops.chance(np.zeros(3, np.uint32), 1.5, np.empty(3, np.float32))
    with pytest.raises(TypeError, match="real number"):
        loops.set_back(np.empty((1, 2, 2)), np.ones((1, 2)), "far")


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pairs = kernels_cpu.paired(rng.random((1, 9, 8, 7), np.float32))
    matrices = np.eye(4) + 0.05 * rng.normal(size=(POSES, 4, 4)) * (np.arange(4) < 3)[:, None]
    return pairs, matrices, (rng.random((3, COUNT)) * 7).astype(np.float32), rng.random((1, COUNT), np.float32) * 11


def evaluated(threads: int) -> tuple[Any, ...]:
    """All that is shared out: what is kept, its information, and the way back; information alone."""
    pairs, matrices, points, positions = scene()
    look_up = LookUp(pairs, np.zeros((0, 0, 0)), NO_RIM, matrices, points, threads)
    kept = keep(look_up, True)
    windows = positions, np.zeros(1, np.float32), np.full(1, 11, np.float32)
    value, by_value, by_weight = inform_points(kept, windows, BINS, normalised=False, derivative=True)
    factors = np.ones((2, POSES), np.float32)
    back = pull_back(kept, by_value, by_weight, factors, matrices, points)
    return kept.counts, kept.sums, value, back, *inform_poses(look_up, windows, BINS, normalised=False)


def assert_same(some: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    for one, other in zip(some, others):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [2, 3, 16, 200])
def test_poses_that_are_shared_out_give_the_same_bits(threads):
    alone = evaluated(1)
    assert alone[2].min() > 0 and alone[3].any((1, 2)).all()
    for _ in range(200):
        assert_same(evaluated(threads), alone)


def test_callers_on_threads_of_their_own_do_not_touch_each_other():
    alone = evaluated(1)
    with ThreadPoolExecutor(6) as callers:
        for found in callers.map(evaluated, [3] * 300):
            assert_same(found, alone)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_child_has_threads_of_its_own():
    alone = evaluated(3)
    with multiprocessing.get_context("fork").Pool(2) as children:
        for found in children.map(evaluated, [3] * 20):
            assert_same(found, alone)
    assert_same(evaluated(3), alone)


def test_the_logarithm_is_numpys():
    rng = np.random.default_rng(1)
    tables = 10 ** rng.uniform(-11, 0, (50, BINS, BINS))
    tables /= tables.sum((1, 2), keepdims=True)
    assert tables.min() > TINY
    values, _ = inform_tables(tables, normalised=False)
    joint = (tables * np.log(tables)).sum((1, 2))
    margins = sum((m * np.log(m)).sum(1) for m in (tables.sum(1), tables.sum(2)))
    np.testing.assert_allclose(values, joint - margins, rtol=0, atol=1e-13)
