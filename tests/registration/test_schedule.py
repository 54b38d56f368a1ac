"""The schedule: spacings are shares of the smaller field of view, presets are frozen plans."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from medmi.grid import Grid
from medmi.registration.presets import PRESETS, Preset
from medmi.registration.problem import Problem, Side
from medmi.registration.schedule import STEPS_ACROSS, Plan, schedule


def side(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Side:
    return Side(torch.zeros(1, *shape), Grid(shape, torch.diag(torch.tensor([*spacing, 1.0]))), None)


LARGE, SMALL = side((101, 101, 101), (2.0, 2.0, 2.0)), side((51, 26, 11), (1.0, 2.0, 5.0))
PLANE = side((101, 201), (1.0, 0.5))


@pytest.mark.parametrize("sides", [(LARGE, SMALL), (SMALL, LARGE)])
def test_spacings_are_shares_of_the_smaller_field_of_view(sides):
    stages = schedule(Problem(*sides), Plan())
    # 50 mm along each axis of the small one: (n - 1) times the spacing.
    assert [stage.spacing for stage in stages] == pytest.approx([50 / across for across in STEPS_ACROSS[3]])


def test_a_plane_has_its_own_steps():
    stages = schedule(Problem(PLANE, PLANE), Plan())
    assert [stage.spacing for stage in stages] == pytest.approx([100 / across for across in STEPS_ACROSS[2]])


def test_unlike_extents_are_averaged_geometrically():
    slab = side((101, 101, 5), (2.0, 2.0, 2.0))
    first, *_ = schedule(Problem(slab, slab), Plan())
    assert first.spacing == pytest.approx((200 * 200 * 8) ** (1 / 3) / STEPS_ACROSS[3][0])


def test_stages_take_the_plans_sizes_in_order():
    plan = Plan(points=(5, 6, 7), poses=(4, 3, 2), steps=(8, 9, 10), bins=(11, 12, 13))
    stages = schedule(Problem(LARGE, SMALL), plan)
    assert [(s.points, s.poses, s.steps, s.bins) for s in stages] == [(5, 4, 8, 11), (6, 3, 9, 12), (7, 2, 10, 13)]


def test_detail_makes_all_but_the_first_level_finer():
    plain, fine = (schedule(Problem(LARGE, SMALL), Plan(detail=d)) for d in (1.0, 2.0))
    assert plain[0].spacing == fine[0].spacing
    assert [a.spacing / b.spacing for a, b in zip(plain[1:], fine[1:])] == pytest.approx([2.0, 2.0])


def test_no_level_is_finer_than_the_plans_finest():
    plain, floored = (schedule(Problem(LARGE, SMALL), Plan(finest=f)) for f in (0.0, 0.5))
    # The large image has the finer voxels: 2 mm against the small one's 10 ** (1 / 3).
    voxel = 2.0
    assert plain[2].spacing < 0.5 * voxel < plain[1].spacing
    assert [s.spacing for s in floored] == pytest.approx([plain[0].spacing, plain[1].spacing, 0.5 * voxel])


def test_a_plan_for_whole_grids_is_smaller_in_every_way():
    plan = Plan()
    small = plan.on_whole_grids()
    assert small.detail < plan.detail and small.poses[0] == plan.poses[0]
    assert all(a <= b for a, b in zip(small.poses + small.steps, plan.poses + plan.steps))


@pytest.mark.parametrize("name", PRESETS)
def test_a_thorough_plan_is_larger_in_all_but_the_last_level_and_visits_the_same_ones(name):
    plan, problem = PRESETS[name].plan, Problem(LARGE, SMALL)
    larger = plan.thorough()
    assert larger.search_points > plan.search_points and larger.rotations > plan.rotations
    before, after = schedule(problem, plan), schedule(problem, larger)
    assert [stage.spacing for stage in after] == [stage.spacing for stage in before] and after[-1] == before[-1]
    assert all(a.points > b.points and a.poses > b.poses for a, b in zip(after[:-1], before[:-1]))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_run_from_coarse_to_fine_with_fewer_poses_and_more_points(name):
    stages = schedule(Problem(LARGE, LARGE), PRESETS[name].plan)
    assert len(stages) == 3
    assert [s.spacing for s in stages] == sorted((s.spacing for s in stages), reverse=True)
    assert [s.poses for s in stages] == sorted((s.poses for s in stages), reverse=True)
    assert [s.points for s in stages] == sorted(s.points for s in stages)


def test_presets_are_frozen_and_ordered_by_effort():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["default"].plan.rotations = 1
    with pytest.raises(TypeError):
        PRESETS["default"] = Preset()
    fast, default, accurate = (PRESETS[name].plan for name in ("fast", "default", "accurate"))
    assert fast.rotations < default.rotations < accurate.rotations
    assert fast.points[-1] < default.points[-1] < accurate.points[-1]
