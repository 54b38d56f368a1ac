"""The search: what it starts from, and when it is repeated more thoroughly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from medmi import register
from medmi.registration.levels import pyramid
from medmi.registration.presets import PRESETS
from medmi.registration.problem import Problem, Side
from medmi.registration.request import Request
from medmi.registration.run import Run
from medmi.registration.schedule import schedule
from medmi.registration.search import chance, started
from medmi.registration.terms import TERMS
from tests.oracles.misalignment import box_points, mean_error, read, turned
from tests.oracles.smooth_pairs import smooth_problem

FAST = PRESETS["fast"].plan


def noisy(problem: Problem, share: float) -> Problem:
    """The problem with noise in the moving image's stead, up to that share."""
    image = problem.moving.image
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * image.std() + image.mean()
    return Problem(problem.fixed, Side((1 - share) * image + share * noise, problem.moving.grid, None))


def run_of(problem: Problem, **changes) -> Run:
    request = dataclasses.replace(Request("rigid", TERMS["mi"], "auto", FAST, 0), **changes)
    stages = schedule(problem, request.plan)
    spacings = [stage.spacing for stage in stages]
    levels = list(zip(pyramid(problem.fixed, spacings), pyramid(problem.moving, spacings)))
    return Run(problem, request, stages, levels, np.random.default_rng(0))


@pytest.fixture(scope="module", params=[2, 3])
def problem(request) -> Problem:
    return smooth_problem(torch.eye(request.param + 1, dtype=torch.float64), other_modality=True, shape=12)


@pytest.mark.parametrize("bins", [8, 16, 32])
def test_chance_is_what_independent_values_seem_to_tell(bins):
    rng = np.random.default_rng(bins)
    told = []
    for _ in range(20):
        table, *_ = np.histogram2d(*rng.random((2, 50 * bins**2)), bins, [[0, 1], [0, 1]])
        told.append(chi2_contingency(table, lambda_="log-likelihood").statistic / 2)
    assert np.mean(told) == pytest.approx(chance(bins), rel=0.1)


def test_a_given_start_is_not_searched(problem):
    run, given = run_of(problem, start="identity"), np.diag([1.0, 2.0, 3.0, 1.0])
    same, poses = started(run, given)
    assert same is run and np.array_equal(poses, given[None])


@pytest.mark.parametrize("similarity", TERMS)
def test_images_that_tell_of_each_other_keep_their_plan(problem, similarity):
    run = run_of(problem, term=TERMS[similarity])
    same, poses = started(run, np.eye(4))
    assert same is run and not run.thorough and 1 < len(poses) <= run.stages[0].poses + 1


@pytest.mark.parametrize("similarity", TERMS)
def test_images_that_tell_next_to_nothing_are_searched_thoroughly(problem, similarity):
    run = run_of(noisy(problem, 0.97), term=TERMS[similarity])
    other, poses = started(run, np.eye(4))
    assert other.request.plan == FAST.thorough() and other.stages == schedule(run.problem, FAST.thorough())
    assert other.thorough and other.levels is run.levels and other.rng is run.rng
    assert run.stages[0].poses < len(poses) <= other.stages[0].poses + 1
    assert np.array_equal(poses[0], np.eye(4))


@pytest.mark.parametrize(("degrees", "mm", "least"), [(10, 10, 4), (20, 20, 3), (45, 40, 3), (90, 40, 2)])
def test_a_slab_of_a_neck_of_which_t1_and_t2_tell_little(data, degrees, mm, least):
    """Right poses tell 0.06 nat a point here, and rise over 3 mm."""
    folder = data / "spine-t1-t2"
    fixed, moving = (read(folder / name) for name in ("t1w.nii.gz", "t2.nii.gz"))
    points = box_points(read(folder / "t1w_seg-manual.nii.gz"))
    errors = []
    for seed in range(4):
        there, motion = turned(moving, degrees, mm, seed)
        errors.append(mean_error(register(fixed, there).transform.to_sitk(), motion, points))
    assert sum(error < 3 for error in errors) >= least, errors
