"""The surfaces against closed forms and autograd."""

from __future__ import annotations

import math

import pytest
import torch

from medmi.simulation.shapes import FAR_MM, Ellipsoid, Waves, dot, smooth_union, turn_matrix, union


def cloud(count: int = 500, size: float = 60.0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple((torch.rand((3, count), generator=generator, dtype=dtype) - 0.5) * 2 * size)


def test_a_sphere_has_its_exact_distance():
    points = cloud()
    centre = torch.tensor([4.0, -7.0, 11.0], dtype=torch.float64)
    exact = (torch.stack(points, 1) - centre).norm(dim=1) - 9.0
    assert torch.allclose(Ellipsoid((4.0, -7.0, 11.0), (9.0, 9.0, 9.0), (20.0, 5.0, -9.0)).distance(points), exact)


def test_distance_is_first_order_near_the_surface_of_a_turned_ellipsoid():
    shape = Ellipsoid((4.0, -7.0, 11.0), (9.0, 25.0, 14.0), (20.0, -35.0, 50.0))
    unit = torch.nn.functional.normalize(torch.stack(cloud(), 1), dim=1)
    rows = torch.tensor(turn_matrix(shape.turn), dtype=torch.float64)
    radii = torch.tensor(shape.radii, dtype=torch.float64)
    surface = (unit * radii) @ rows + torch.tensor(shape.centre, dtype=torch.float64)
    normal = torch.nn.functional.normalize((unit / radii) @ rows, dim=1)
    for offset in (-0.05, 0.0, 0.05):
        found = shape.distance(tuple((surface + offset * normal).T))
        assert float((found - offset).abs().max()) < 1e-3


def test_turn_matrix_is_the_rotation_about_its_vector():
    rows = torch.tensor(turn_matrix((0.0, 0.0, 30.0)), dtype=torch.float64)
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    assert torch.allclose(rows, torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]], dtype=torch.float64))


def test_what_is_called_beyond_a_margin_is():
    shape = Ellipsoid((4.0, -7.0, 11.0), (9.0, 25.0, 14.0), (20.0, -35.0, 50.0))
    x, y, z = cloud(4000, 90.0)
    told = 0
    for corner in torch.cartesian_prod(*[torch.arange(-90.0, 90.0, 30.0)] * 3).tolist():
        inside = [(p >= c) & (p < c + 30) for p, c in zip((x, y, z), corner, strict=True)]
        chosen = inside[0] & inside[1] & inside[2]
        if shape.beyond(tuple((c, c + 30) for c in corner), 6.0) and bool(chosen.any()):
            told += 1
            assert float(shape.distance((x[chosen], y[chosen], z[chosen])).min()) > 6.0
    assert told > 50


def test_the_smooth_union_is_the_minimum_away_from_the_crease_and_never_above_it():
    first, second = cloud()[:2]
    both = smooth_union(first, second, 5.0)
    apart = (first - second).abs() >= 5.0
    minimum = torch.minimum(first, second)
    assert torch.equal(both[apart], minimum[apart])
    assert bool((both <= minimum).all()) and float((minimum - both).max()) <= 5.0 / 4
    assert torch.equal(both, smooth_union(second, first, 5.0))


def test_a_union_of_shapes_out_of_reach_is_far():
    x, y, z = cloud(10, 5.0)
    shapes = (Ellipsoid((500.0, 0.0, 0.0), (5.0, 5.0, 5.0)),)
    assert bool((union(shapes, (x, y, z), 4.0, ((-5, 5),) * 3, 20.0) == FAR_MM).all())


def test_the_sheet_distance_divides_by_the_slope_autograd_finds():
    waves = Waves.random(5, (20.0, 40.0), torch.Generator().manual_seed(1))
    points = torch.stack(cloud(40)).requires_grad_()
    value = waves.value(tuple(points))
    (slope,) = torch.autograd.grad(value.sum(), points)
    typical = sum(a * a * sum(c * c for c in k) for a, k in zip(waves.amplitudes, waves.vectors, strict=True)) / 2
    with torch.no_grad():
        expected = value.abs() / (slope.square().sum(0) + 0.15 * typical).sqrt()
        assert torch.allclose(waves.sheet_distance(tuple(points)), expected)


def test_random_waves_have_unit_power_and_the_asked_wavelengths():
    waves = Waves.random(12, (20.0, 40.0), torch.Generator().manual_seed(1))
    lengths = [2 * math.pi / math.sqrt(sum(c * c for c in k)) for k in waves.vectors]
    assert min(lengths) >= 20.0 and max(lengths) <= 40.0
    assert float(waves.value(cloud(20000, 500.0)).square().mean()) == pytest.approx(1.0, abs=0.1)


def test_dot_leaves_its_points_alone():
    points = cloud(5)
    before = [p.clone() for p in points]
    assert torch.allclose(dot((1.0, 2.0, 3.0), points), before[0] + 2 * before[1] + 3 * before[2])
    assert all(torch.equal(a, b) for a, b in zip(points, before, strict=True))
