"""The loop: known truth on a phantom, the same bits always, families, starts, progress, and how it says that it failed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medmi.grid import Grid
from medmi.registration import engine
from medmi.registration.engine import Request, Solution, _failure, solve
from medmi.registration.families import FAMILY_BY_LEVEL, scaled_basis
from medmi.registration.objective import Scores
from medmi.registration.presets import PRESETS
from medmi.registration.problem import Problem, Side, pose_problem
from medmi.registration.run import Run
from medmi.registration.schedule import schedule
from medmi.registration.search import started_thoroughly
from medmi.registration.terms import TERMS, Term
from medmi.simulation.phantom import VIEW_CENTRE, HeadPhantom, centred_grid, displacement_matrix
from medmi.spatial import FAMILIES, LinearTransform, linear_matrix, matrix_exp
from tests.contracts.transforms import parameters
from tests.oracles.smooth_pairs import smooth_problem

VOXEL = 4.0
FAST = PRESETS["fast"].plan
DIMS = [(family, d) for family in FAMILIES for d in FAMILIES[family].dims]


@pytest.fixture(scope="module")
def phantom() -> SimpleNamespace:
    """A T1-like and a T2-like head of 4 mm on unlike oblique grids, turned and shifted, and the truth."""
    head = HeadPhantom(0)
    fixed_grid = centred_grid((46, 52, 44), ((VOXEL, 0, 0), (0, VOXEL, 0), (0, 0, VOXEL)), (6.0, -4.0, 8.0))
    moving_grid = centred_grid((40, 44, 46), ((0, 0, 4.5), (-3.6, 0, 0), (0, 4.2, 0)), (-7.0, 5.0, 3.0))
    truth = displacement_matrix(12.0, 9.0, torch.Generator().manual_seed(0))
    fixed = head.image(fixed_grid, "t1", seed=0, noise=0.02)
    moving = head.image(moving_grid, "t2", seed=1, noise=0.02)
    problem = pose_problem(fixed, MetaTensor(moving.as_tensor(), affine=truth @ moving_grid.affine))
    points = fixed_grid.points().reshape(-1, 3)
    near = (points - torch.tensor(VIEW_CENTRE, dtype=torch.float64)).norm(dim=-1) < 80
    return SimpleNamespace(problem=problem, truth=LinearTransform(truth, "rigid"), points=points[near])


def request(**changes) -> Request:
    asked = Request("rigid", TERMS["mi"], "auto", FAST, 0)
    return dataclasses.replace(asked, **changes)


@pytest.fixture(scope="module")
def found(phantom) -> Solution:
    return solve(phantom.problem, request())


def distance(a: LinearTransform, b: LinearTransform, points: torch.Tensor) -> float:
    """Mean mm between the images of points."""
    return float((a.points(points) - b.points(points)).norm(dim=-1).mean())


def test_the_truth_is_found_within_a_fifth_of_a_voxel(phantom, found):
    assert not found.status.startswith("failed")
    assert distance(found.transform, phantom.truth, phantom.points) < 0.2 * VOXEL
    assert found.transform.family == "rigid" and 0.5 < found.overlap <= 1 and found.similarity > 0.3


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_bits_do_not_depend_on_threads_nor_on_the_call(phantom, found, threads):
    again = solve(phantom.problem, request(threads=threads))
    assert torch.equal(again.transform.matrix, found.transform.matrix)
    assert again.history == found.history and again.similarity == found.similarity


@pytest.mark.parametrize("seed", [1, 2])
def test_other_seeds_agree_within_a_fifth_of_a_voxel(phantom, found, seed):
    other = solve(phantom.problem, request(seed=seed))
    assert not torch.equal(other.transform.matrix, found.transform.matrix)
    assert distance(other.transform, found.transform, phantom.points) < 0.2 * VOXEL


def test_history_and_progress_follow_the_levels(phantom, found):
    levels = [row["level"] for row in found.history]
    assert levels == sorted(levels) and set(levels) == {0, 1, 2}
    assert all(np.isfinite(row["similarity"]) and 0 <= row["overlap"] <= 1 for row in found.history)
    shares: list[float] = []
    solve(phantom.problem, request(start="moments", on_progress=shares.append))
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) >= 3


def test_poses_with_a_rival_are_searched_anew_and_progress_is_not_taken_back(phantom, found, monkeypatch):
    searched, shares = [], []
    monkeypatch.setattr(engine, "RIVAL", 0.0)
    monkeypatch.setattr(engine, "started_thoroughly", lambda *a: searched.append(a) or started_thoroughly(*a))
    again = solve(phantom.problem, request(on_progress=shares.append))
    assert len(searched) == 1 and shares == sorted(shares) and shares[-1] == 1.0
    assert distance(again.transform, found.transform, phantom.points) < 0.2 * VOXEL
    levels = [row["level"] for row in again.history]
    assert levels == sorted(levels) and len(levels) > len(found.history) / 2
    solve(phantom.problem, request(start="identity"))
    assert len(searched) == 1


@pytest.mark.parametrize(
    ("merits", "mm", "thorough", "start", "torn"),
    [
        ((1.0, 0.95), 50, False, "auto", True),
        ((0.95, 1.0), 50, False, "auto", True),
        ((1.0, 0.85), 50, False, "auto", False),
        ((1.0, 0.95), 5, False, "auto", False),
        ((1.0, np.nan), 50, False, "auto", False),
        ((1.0, 0.95), 50, True, "auto", False),
        ((1.0, 0.95), 50, False, "identity", False),
    ],
)
def test_a_rival_is_far_away_and_scores_nearly_as_high(phantom, merits, mm, thorough, start, torn):
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = mm
    stages = schedule(phantom.problem, FAST)
    assert 5 < 2 * stages[0].spacing < 50
    run = Run(phantom.problem, request(start=start), stages, [], np.random.default_rng(0), thorough=thorough)
    values = np.array(merits)
    objective = SimpleNamespace(points=np.zeros((3, 10), np.float32))
    summit = engine.Summit(poses, Scores(values, values, values, values, np.zeros((2, 4, 4))), objective, True)
    assert engine._torn(run, summit) is torn


@pytest.mark.parametrize("start", ["identity", "geometry", "moments", "transform"])
def test_named_starts_and_given_transforms_lead_to_the_same_place(phantom, found, start):
    given = phantom.truth.compose(LinearTransform(linear_matrix(torch.tensor([3.0, -2, 4]), "translation", 3)))
    solution = solve(phantom.problem, request(start=given if start == "transform" else start))
    assert distance(solution.transform, found.transform, phantom.points) < 0.2 * VOXEL


@pytest.mark.parametrize(("family", "d"), DIMS)
def test_each_family_finds_its_truth_and_stays_in_its_group(family, d):
    size = torch.tensor([0.15] * d + [0.3] * 10)[: len(parameters(family, d))]
    truth = LinearTransform(linear_matrix(size * parameters(family, d), family, d), family)
    problem = smooth_problem(truth.matrix, shape=8)
    solution = solve(problem, request(family=family, start="identity", term=TERMS["ncc"]))
    points = problem.fixed.grid.points().reshape(-1, d)
    points = points[points.norm(dim=-1) < 9]
    assert distance(solution.transform, truth, points) < 0.5
    matrix = solution.transform.matrix
    assert solution.transform.family == family and matrix.shape == (d + 1, d + 1)
    linear = matrix[:-1, :-1]
    gram, eye = linear.T @ linear, torch.eye(d, dtype=torch.float64)
    expected = {"translation": eye, "rigid": eye, "similarity": eye * gram[0, 0]}.get(family, gram)
    torch.testing.assert_close(gram, expected, rtol=0, atol=1e-12)
    assert family == "homography" or matrix[-1].tolist() == [0.0] * d + [1.0]


@pytest.mark.parametrize(("family", "d"), DIMS)
def test_a_unit_of_each_generator_moves_the_farthest_corner_by_one_millimetre(family, d):
    problem = smooth_problem(torch.eye(d + 1, dtype=torch.float64))
    grid = problem.fixed.grid
    corners = (grid.corners - grid.centre).numpy()
    lifted = np.concatenate([corners, np.zeros((len(corners), 3 - d)), np.ones((len(corners), 1))], 1)
    for generator in scaled_basis(family, problem):
        ends = [lifted @ matrix_exp(torch.from_numpy(s * generator)).numpy().T for s in (1e-5, -1e-5)]
        ends = [e[:, :3] / e[:, 3:] for e in ends]
        speed = np.linalg.norm(ends[0] - ends[1], axis=1) / 2e-5
        assert speed.max() == pytest.approx(1, abs=1e-6)


def test_families_grow_from_level_to_level():
    order = list(FAMILIES)
    for family, levels in FAMILY_BY_LEVEL.items():
        assert levels[-1] == family and [order.index(f) for f in levels] == sorted(order.index(f) for f in levels)


@pytest.mark.parametrize("family", FAMILY_BY_LEVEL)
def test_the_coarsest_level_goes_by_the_rim_where_sizes_are_held(phantom, family):
    run = Run(phantom.problem, request(family=family), [], [], np.random.default_rng(0))
    assert run.coarse_term.rim == (family != "homography") and not run.coarse_term.stiffness


def test_too_few_steps_end_as_max_iterations(phantom):
    hurried = dataclasses.replace(FAST, steps=(2, 2, 2))
    assert solve(phantom.problem, request(plan=hurried, start="identity")).status == "max_iterations"


def test_rest_ends_as_converged():
    problem = smooth_problem(torch.eye(4, dtype=torch.float64), shape=8)
    patient = dataclasses.replace(FAST, steps=(60, 60, 60))
    assert solve(problem, request(plan=patient, start="identity", term=TERMS["ssd"])).status == "converged"


def test_images_far_apart_fail_for_want_of_overlap():
    problem = smooth_problem(torch.eye(4, dtype=torch.float64))
    shift = torch.eye(4, dtype=torch.float64)
    shift[0, 3] = 500
    away = Side(problem.moving.image, Grid(problem.moving.grid.shape, shift @ problem.moving.grid.affine), None)
    solution = solve(Problem(problem.fixed, away), request(start="identity"))
    assert solution.status.startswith("failed: the images overlap by 0% only, under 10%")


def test_a_similarity_that_is_not_finite_fails():
    def broken(kept, samples, derivative):
        return [np.full_like(a, np.nan) for a in (kept.sums[0], kept.values, kept.weights)]

    problem = smooth_problem(torch.eye(4, dtype=torch.float64))
    solution = solve(
        problem,
        request(
            term=Term(broken, TERMS["mi"].on_tensors, lambda samples: 0.0, TERMS["mi"].information), start="identity"
        ),
    )
    assert solution.status.startswith("failed: the similarity is not finite")
    torch.testing.assert_close(solution.transform.matrix, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)


def scores_of(*rows: tuple[float, float]) -> Scores:
    value, overlap = np.array(rows).T
    return Scores(value, overlap, value, value, np.zeros((len(rows), 4, 4)))


@pytest.mark.parametrize(
    ("similarity", "overlap", "start", "said"),
    [
        (0.5, 0.8, (0.4, 0.9), None),
        (0.5, 0.8, (0.5, 0.9), None),
        (0.5, 0.8, (0.6, 0.05), None),
        (0.5, 0.8, (float("nan"), 0.9), None),
        (float("nan"), 0.8, (0.4, 0.9), "not finite"),
        (0.5, 0.04, (0.4, 0.9), "overlap by 4% only"),
        (0.3, 0.8, (0.4, 0.9), "never rose above that of the starting pose"),
    ],
)
def test_failure_names_its_reason(similarity, overlap, start, said):
    outcome = (similarity, overlap)
    status = _failure(scores_of(outcome), 0, scores_of(start, outcome))
    assert status is None if said is None else status.startswith("failed: ") and said in status
