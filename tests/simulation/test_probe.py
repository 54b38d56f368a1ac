"""The fan against its geometry written out, and what a probe refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medmi.grid import Grid
from medmi.simulation.probe import Fan, Probe, beam_axes, fan_mask
from medmi.validation import InputError

FLAT = Grid((61, 83), [[1.5, 0.3, -40], [-0.2, 1.1, 12], [0, 0, 1]])
SOLID = Grid((19, 23, 29), [[3.1, 0.4, -0.3, -20], [-0.5, 4.2, 0.2, -60], [0.2, -0.3, 2.4, -25], [0, 0, 0, 1]])


@pytest.mark.parametrize("grid", [FLAT, SOLID])
def test_world_to_beam_and_back(grid):
    probe = Probe(direction=(0.3, -1.0, 0.4)[: grid.spatial_dims])
    fan, points = Fan.of(probe, grid), grid.points()
    assert float((fan.to_world(fan.to_beam(points)) - points).norm(dim=-1).max()) < 1e-9


def test_a_beam_coordinate_is_a_distance_and_angles():
    fan = Fan.of(Probe(), SOLID)
    beam = fan.to_beam(SOLID.points().reshape(-1, 3)).numpy()
    ray = (SOLID.points().reshape(-1, 3) - fan.apex).numpy()
    assert np.allclose(beam[:, 0], np.linalg.norm(ray, axis=1))
    assert np.allclose(beam[:, 1], np.arctan(ray[:, 0] / -ray[:, 1]))
    assert np.allclose(np.abs(beam[:, 2]), np.abs(np.arctan(ray[:, 2] / ray[:, 1])))


@pytest.mark.parametrize("grid", [FLAT, SOLID])
def test_the_face_touches_the_images_box_and_the_depth_ends_at_its_far_side(grid):
    direction = torch.tensor((0.6, 0.8, 0.0)[: grid.spatial_dims], dtype=torch.float64)
    fan = Fan.of(Probe(direction=tuple((2 * direction).tolist()), radius_mm=25.0), grid)
    along = (grid.corners - fan.apex) @ direction
    assert float(along.min()) == pytest.approx(25.0) and float(along.max()) == pytest.approx(float(fan.high[0]))
    assert Fan.of(Probe(depth_mm=70.0, radius_mm=25.0), grid).high[0] == 95.0


def test_the_mask_is_a_sector():
    probe = Probe(direction=(0.0, -1.0), opening_deg=60.0, radius_mm=30.0, depth_mm=50.0)
    points = FLAT.points().numpy()
    corners = FLAT.corners.numpy()
    middle = (corners.max(0) + corners.min(0)) / 2
    apex = np.array([middle[0], corners[:, 1].max() + 30.0])
    ray = points - apex
    distance = np.linalg.norm(ray, axis=-1)
    angle = np.degrees(np.arccos(-ray[..., 1] / distance))
    expected = (distance >= 30) & (distance <= 80) & (angle <= 30)
    assert np.array_equal(fan_mask(FLAT, probe).numpy(), expected)
    assert 0.05 < expected.mean() < 0.95


def test_elevation_narrows_the_pyramid():
    wide, narrow = (int(fan_mask(SOLID, Probe(elevation_deg=e)).sum()) for e in (80.0, 10.0))
    assert 0 < narrow < wide / 3


@pytest.mark.parametrize("direction", [(1.0, 0, 0), (0, 0, -2.0), (0.2, -0.5, 0.7), (0.0, 1.0), (-3.0, 4.0)])
def test_axes_are_orthonormal_and_begin_with_the_beam(direction):
    given = torch.tensor(direction, dtype=torch.float64)
    axes = beam_axes(given)
    assert torch.allclose(axes @ axes.mT, torch.eye(len(direction), dtype=torch.float64), atol=1e-12)
    assert torch.allclose(axes[0] * given.norm(), given)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("opening_deg", 0.0),
        ("elevation_deg", 175.0),
        ("radius_mm", 0.0),
        ("depth_mm", -3.0),
        ("cell_mm", math.inf),
        ("attenuation_db_per_cm", -0.1),
        ("attenuation_db_per_cm", math.nan),
        ("direction", (0.0, 0.0, 0.0)),
        ("direction", (math.nan, 0.0, 1.0)),
    ],
)
def test_a_probe_that_cannot_be_is_refused(option, value):
    with pytest.raises(InputError, match=f"Probe: {option} is"):
        Probe(**{option: value})


def test_a_direction_of_another_dimension_is_refused():
    with pytest.raises(InputError, match="direction has 3 components; the image is 2D"):
        fan_mask(FLAT, Probe(direction=(0.0, 1.0, 0.0)))
