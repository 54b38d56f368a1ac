"""The objective in torch's operators against its compiled twin: scores, gradients, masks, rims, poses that lead nowhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medmi.registration.objective import Objective
from medmi.registration.objective_torch import BATCH, TorchObjective, tensor_volume, torch_objective
from medmi.registration.terms import TERMS
from tests.registration.test_objective import objective_of, pose_of, slid

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
FIELDS = ("similarity", "overlap", "merit", "value", "gradient")


def on(device: str, twin: Objective) -> TorchObjective:
    return torch_objective(twin, tensor_volume(twin.moving, torch.device(device)))


def assert_same(twin: Objective, device: str, poses: np.ndarray) -> None:
    ours, theirs = on(device, twin)(poses), twin(poses)
    for name in FIELDS:
        found, wanted = getattr(ours, name), getattr(theirs, name)
        assert found.dtype == np.float64 and found.shape == wanted.shape
        # Float32 coordinates that are rounded in another order; where a gradient's terms cancel, their rounding does not.
        scale, share = (np.abs(wanted).max(), 2e-5) if wanted.ndim > 1 else (np.abs(wanted), 5e-5)
        assert (np.abs(found - wanted) <= share * scale + 1e-6).all(), (name, np.abs(found - wanted).max(), scale)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(
    ("d", "channels", "family"), [(3, 1, "affine"), (3, 3, "rigid"), (2, 1, "affine"), (2, 3, "homography")]
)
def test_scores_and_gradients_are_those_of_the_compiled_loops(name, d, channels, family, device):
    twin, centre = objective_of(name, d, channels)
    # Not at poses where points lie on voxels: there the derivative depends on the side that it is taken from.
    poses = np.stack([pose_of(d, centre, family, size) for size in (-0.31, 0.07, 0.15, 0.43)])
    assert_same(twin, device, poses)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("rim", ["background", "tissue", "mask"])
def test_points_beyond_the_rim_count_as_in_the_compiled_loops(name, rim, device):
    twin, centre = objective_of(name, 3)
    moving = twin.moving
    if rim == "mask":
        mask = np.ones(moving.voxels.shape[1:], np.uint8)
        mask[: len(mask) // 3] = 0
        moving = replace(moving, mask=mask)
    elif rim == "tissue":
        moving = replace(moving, low=moving.low - 3 * (moving.high - moving.low))
    twin = replace(twin, moving=moving)
    poses = slid(twin, centre, np.array([-11.3, 0.4, 5.7, 9.1, 13.6])) @ pose_of(3, np.zeros(3))
    overlaps = twin(poses).overlap
    assert overlaps.min() < 0.9, "no pose loses points: the rim is not tested"
    assert_same(twin, device, poses)
    lost = [twin.lost(pose) for pose in poses]
    assert lost == [on(device, twin).lost(pose) for pose in poses] and (max(lost) > 0.05) == (rim == "background")


@pytest.mark.parametrize("device", DEVICES)
def test_poses_that_lead_nowhere_have_no_overlap(device):
    twin, centre = objective_of("mi", 3)
    poses = np.stack([pose_of(3, centre)] * 3)
    poses[1, :3, 3] += 1e4
    poses[2, 0, 0] = np.nan
    scores = on(device, twin)(poses)
    assert scores.overlap.tolist() == [1, 0, 0]
    assert np.isfinite(scores.gradient[:2]).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TERMS)
def test_same_bits_again_and_gradient_only_where_asked(name, device):
    twin, centre = objective_of(name, 3, 3)
    objective, poses = on(device, twin), np.stack([pose_of(3, centre, size=s) for s in (-0.3, 0.2)])
    first, second, without = objective(poses), objective(poses), objective(poses, gradient=False)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    np.testing.assert_array_equal(first.value, without.value)
    assert first.gradient.any() and not without.gradient.any()


@pytest.mark.parametrize("device", DEVICES)
def test_more_poses_than_one_call_takes(device):
    twin, centre = objective_of("mi", 2, count=3000)
    poses = np.stack([pose_of(2, centre, size=s) for s in np.linspace(-0.4, 0.4, 2 * BATCH // twin.points.shape[1])])
    many = on(device, twin)(poses, gradient=False).similarity
    np.testing.assert_allclose(many, twin(poses, gradient=False).similarity, rtol=2e-4)


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_climbs_where_gradients_are_switched_off(switch):
    twin, centre = objective_of("mi", 2)
    pose = pose_of(2, centre)[None]
    with switch():
        inside = on("cpu", twin)(pose)
    np.testing.assert_array_equal(inside.gradient, on("cpu", twin)(pose).gradient)


def test_autocast_changes_nothing():
    twin, centre = objective_of("mi", 3)
    pose = pose_of(3, centre)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = on("cpu", twin)(pose)
    np.testing.assert_array_equal(inside.value, on("cpu", twin)(pose).value)
