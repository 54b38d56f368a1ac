"""Critic and pose together: known offsets are found in 2D and 3D, grey and colour; the same bits always; what is refused and what fails."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medmi import InputError, register
from medmi.registration.critic_inputs import DESCRIPTORS
from medmi.registration.engine import Request, solve
from medmi.registration.families import lift_point, scaled_basis
from medmi.registration.levels import Array, lift, pyramid
from medmi.registration.neural import LEAST_POINTS, LEVELS, NeuralTerm, Summit, Way, climb_with_critic
from medmi.registration.neural_objective import Pool
from medmi.registration.problem import Problem, pose_problem
from medmi.registration.schedule import Plan
from medmi.spatial import LinearTransform
from tests.oracles.scene import colours, error, pair, truth

SHORT = NeuralTerm(warm_up=60, steps=200, points=500, pool=8000, critic_rate=3e-3)
HALF_VOXEL = 0.5


def way_from(problem: Problem, start: Array, spacings: tuple[float, ...] = (4.0, 2.0, 0.5)) -> Way:
    """From a RAS matrix, over three levels."""
    levels = list(zip(*(pyramid(side, list(spacings)) for side in (problem.fixed, problem.moving))))
    shift = np.eye(4)
    shift[:3, 3] = lift_point(problem)
    pose = lift(torch.from_numpy(start)) @ shift
    return Way(levels, lift_point(problem), scaled_basis("rigid", problem), pose, pose)


def matrix_of(pose: Array, problem: Problem) -> torch.Tensor:
    shift = np.eye(4)
    shift[:3, 3] = -lift_point(problem)
    keep = [0, 1, 3] if problem.spatial_dims == 2 else [0, 1, 2, 3]
    return torch.from_numpy((pose @ shift)[np.ix_(keep, keep)])


def climbed(d: int, term: NeuralTerm = SHORT, seed: int = 0, millimetres: float = 4.0) -> tuple[Summit, torch.Tensor]:
    problem = pose_problem(*pair(truth("rigid", d)))
    off = np.eye(d + 1)
    off[0, d] = millimetres
    summit = climb_with_critic(term, way_from(problem, off @ truth("rigid", d)), seed)
    return summit, matrix_of(summit.poses[0], problem)


def test_every_step_looks_all_over_the_image(monkeypatch):
    seen, look_up = [], Pool.look_up

    def recorded(pool: Pool, pose: Array, chosen: Array):
        seen.append(chosen)
        return look_up(pool, pose, chosen)

    monkeypatch.setattr(Pool, "look_up", recorded)
    climbed(2, dataclasses.replace(SHORT, warm_up=5, steps=20, levels="in_turn"))
    steps = [chosen for chosen in seen if len(chosen) == SHORT.points]
    assert len(steps) == 25 and (steps[0] != steps[1]).any()
    for chosen in steps:
        np.testing.assert_array_equal(chosen * SHORT.points // SHORT.pool, np.arange(SHORT.points))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("d", [2, 3])
def test_critic_and_pose_find_a_known_offset_together(d, levels):
    summit, matrix = climbed(d, dataclasses.replace(SHORT, levels=levels))
    assert error(matrix, truth("rigid", d)) < HALF_VOXEL
    assert summit.scores.similarity[0] > 0.3 and summit.rested


@pytest.mark.parametrize("inputs", [("smoothed",), ("intensity", "gradient"), ("deviation", "contrast")])
def test_local_descriptors_lead_there_too(inputs):
    assert error(climbed(2, dataclasses.replace(SHORT, inputs=inputs))[1], truth("rigid", 2)) < HALF_VOXEL


@pytest.mark.parametrize(
    ("family", "d"), [("translation", 2), ("similarity", 2), ("affine", 2), ("homography", 2), ("rigid", 3)]
)
def test_register_finds_each_family(family, d):
    matrix = truth(family, d)
    result = register(*pair(matrix), transform=family, similarity=SHORT)
    assert error(result.transform.matrix, matrix) < HALF_VOXEL
    assert result.transform.family == family and not result.failed and result.similarity > 0.3


@pytest.mark.parametrize("family", ["rigid", pytest.param("homography", marks=pytest.mark.slow)])
def test_colours_go_to_one_critic_together(family):
    matrix = truth(family, 2)
    fixed, moving = colours(matrix)
    result = register(fixed, moving, transform=family, similarity=dataclasses.replace(SHORT, steps=300))
    assert error(result.transform.matrix, matrix) < HALF_VOXEL
    # The second and third channel of the moving image in each other's place: only a critic of all six inputs can know.
    mixed = MetaTensor(moving.as_tensor()[[0, 2, 1]], affine=moving.affine)
    again = register(fixed, mixed, transform=family, similarity=dataclasses.replace(SHORT, steps=300))
    assert error(again.transform.matrix, matrix) < HALF_VOXEL


@pytest.mark.slow
def test_the_name_means_the_default_options():
    assert NeuralTerm() != SHORT
    images = pair(truth("rigid", 2))
    by_name, by_options = (register(*images, similarity=s) for s in ("mine", NeuralTerm()))
    assert torch.equal(by_name.transform.matrix, by_options.transform.matrix)
    assert error(by_name.transform.matrix, truth("rigid", 2)) < 0.2


def test_the_same_seed_gives_the_same_bits_at_any_number_of_threads_and_in_evaluation():
    images = pair(truth("rigid", 3))
    before = torch.get_num_threads()
    state = torch.get_rng_state()
    first = register(*images, similarity=SHORT, seed=4)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.inference_mode() if threads == 3 else torch.no_grad():
                again = register(*images, similarity=SHORT, seed=4, threads=threads)
            assert torch.get_num_threads() == threads
            assert torch.equal(again.transform.matrix, first.transform.matrix) and again.history == first.history
            assert again.similarity == first.similarity
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_draws_other_points_and_agrees():
    first, second = (climbed(2, seed=seed)[1] for seed in (0, 1))
    assert not torch.equal(first, second)
    assert error(first, second.numpy()) < 0.4


def test_history_and_progress_run_through_the_climb():
    told: list[float] = []
    result = register(*pair(truth("rigid", 2)), similarity=SHORT, progress=told.append)
    assert told == sorted(told) and told[-1] == 1 and len(told) > 20
    climb = [row["similarity"] for row in result.history if row["level"] == 2]
    assert np.mean(climb[-5:]) > np.mean(climb[:5]) + 0.1
    assert all(0 < row["overlap"] <= 1 for row in result.history)


def test_a_given_pose_that_is_right_stays_or_comes_out_unharmed():
    matrix = truth("rigid", 2)
    given = LinearTransform(torch.from_numpy(matrix), "rigid")
    for seed in range(3):
        result = register(*pair(matrix), similarity=SHORT, initial=given, seed=seed)
        assert not result.failed and error(result.transform.matrix, matrix) < 0.2


def test_a_critic_that_diverges_is_a_failure_that_says_so():
    result = register(*pair(truth("rigid", 2)), similarity=dataclasses.replace(SHORT, critic_rate=1e30))
    assert result.status.startswith("failed: the similarity is not finite")
    assert bool(result.transform.matrix.isfinite().all())


def test_a_pose_without_overlap_is_a_failure_that_says_so():
    problem = pose_problem(*pair(truth("rigid", 2)))
    far = np.eye(3)
    far[0, 2] = 500.0
    summit = climb_with_critic(SHORT, way_from(problem, far), 0)
    assert summit.scores.overlap[0] == 0 and summit.scores.similarity[0] == -np.inf and not summit.rested
    start = LinearTransform(torch.from_numpy(far), "rigid")
    request = Request("rigid", SHORT, start, Plan(), 0)
    assert solve(problem, request).status.startswith("failed: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ()}, "inputs: none came"),
        ({"inputs": ("intensty",)}, r"inputs: unknown value 'intensty'; did you mean 'intensity'\?"),
        ({"levels": "in turn"}, r"levels: unknown value 'in turn'; did you mean 'in_turn'\?"),
        ({"points": LEAST_POINTS - 1}, f"points: got {LEAST_POINTS - 1}; at least {LEAST_POINTS} is asked"),
        ({"pool": 10}, f"pool: got 10; at least {LEAST_POINTS} is asked"),
        ({"steps": 3}, "steps: got 3; at least 20 is asked"),
        ({"warm_up": -1}, "warm_up: got -1; at least 0 is asked"),
        ({"critic_rate": 0.0}, "critic_rate: got 0.0; a positive number is asked"),
        ({"pose_step": float("nan")}, "pose_step: got nan; a positive number is asked"),
        ({"hidden": ()}, "hidden: "),
        ({"hidden": (0,)}, "hidden: "),
    ],
)
def test_options_that_nothing_can_be_learnt_with(options, message):
    with pytest.raises(InputError, match=message):
        NeuralTerm(**options)


def test_every_descriptor_is_an_input():
    assert NeuralTerm(inputs=tuple(DESCRIPTORS)).inputs == tuple(DESCRIPTORS)
